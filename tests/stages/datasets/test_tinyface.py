"""TinyFace: lists and names must agree; what is missing is named."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.io

from stages.core.metrics.processing import Failure
from stages.datasets import tinyface
from tests.stages import small_sets


@pytest.fixture
def testing(tmp_path):
    return small_sets.write_tinyface(tmp_path)


def test_probes_come_first_then_mates_then_distractors(tmp_path, testing):
    found = tinyface.load(tmp_path)
    assert found.num_probes == 6
    assert found.subject_N.tolist() == [1, 2, 3, 4, 5, 6] * 2 + [tinyface.NOBODY] * 5
    assert (found.names[0], found.names[6], found.names[-1]) == (
        "Probe/1_1",
        "Gallery_Match/1_2",
        "Gallery_Distractor/4",
    )
    assert sum(not isinstance(image, Failure) for image in found.images()) == 17


def test_the_real_lists_are_read(faces):
    found = tinyface.load(faces / "eval/tinyface")
    assert found.num_probes == 1181
    assert (len(found.names), int((found.subject_N == tinyface.NOBODY).sum())) == (1181 + 1105 + 1500, 1500)


def test_an_image_without_an_aligned_face_is_a_failure_in_its_place(tmp_path, testing):
    (tmp_path / tinyface.ALIGNED / "Probe/3_1.jpg").unlink()
    images = list(tinyface.load(tmp_path).images())
    assert images[2] == Failure("Probe/3_1.jpg", "No such file or directory")
    assert len(images) == 17


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ([("1_1", 1), ("2_1", 3)], r"row 2: 2_1\.jpg should begin with its subject, which is 3 there"),
        ([("one", 1)], r"row 1: one\.jpg should begin with its subject"),
        ([("1_1", 1), ("1_1", 1)], r"row 2: 1_1\.jpg is listed twice"),
    ],
)
def test_a_list_that_contradicts_the_names_is_refused(tmp_path, testing, listed, message):
    small_sets.write_list(testing / "probe_img_ID_pairs.mat", "probe", listed)
    with pytest.raises(ValueError, match=rf"probe_img_ID_pairs\.mat, {message}"):
        tinyface.load(tmp_path)


def test_a_list_with_more_names_than_subjects_is_refused(tmp_path, testing):
    names = np.array([["1_1.jpg"], ["2_1.jpg"]], dtype=object)
    scipy.io.savemat(testing / "probe_img_ID_pairs.mat", {"probe_set": names, "probe_ids": np.array([[1]])})
    with pytest.raises(ValueError, match="probe_set has 2 names, probe_ids 1 subjects"):
        tinyface.load(tmp_path)


@pytest.mark.parametrize("keep", [0, 3, 130, 200, 400, -5])
def test_a_torn_list_is_refused_with_its_name(tmp_path, testing, keep):
    path = testing / "probe_img_ID_pairs.mat"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"probe_img_ID_pairs\.mat should hold probe_set"):
        tinyface.load(tmp_path)


def test_a_list_of_something_else_is_refused(tmp_path, testing):
    scipy.io.savemat(testing / "probe_img_ID_pairs.mat", {"other": np.zeros(3)})
    with pytest.raises(ValueError, match=r"probe_img_ID_pairs\.mat should hold probe_set"):
        tinyface.load(tmp_path)


@pytest.mark.parametrize(
    "missing",
    [
        "tinyface/Testing_Set/probe_img_ID_pairs.mat",
        "tinyface/Testing_Set/gallery_match_img_ID_pairs.mat",
        "tinyface/Testing_Set/Gallery_Distractor",
        "aligned_pad_0.1_pad_high",
    ],
)
def test_a_missing_part_is_named(tmp_path, testing, missing):
    (tmp_path / missing).rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match=missing.split("/")[-1]):
        tinyface.load(tmp_path)
