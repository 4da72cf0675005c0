"""SCface: which images are probes, gallery or left out, and what is said of names that fit none."""

from __future__ import annotations

import pytest

from stages.core.metrics.processing import Failure
from stages.datasets import scface
from tests.stages import small_sets


@pytest.fixture
def listing(tmp_path):
    return small_sets.write_scface(tmp_path)


def test_cameras_6_to_8_are_left_out_and_counted(tmp_path, listing):
    found = scface.load(tmp_path)
    assert found.num_left_out == 15
    assert [int((found.distance_N == distance).sum()) for distance in range(4)] == [5, 10, 10, 10]
    assert not any(camera in name for name in found.names for camera in ("cam6", "cam7", "cam8"))
    assert found.subject_N.tolist() == [int(name[:3]) for name in found.names]
    assert all(not isinstance(image, Failure) for image in found.images())


def test_the_real_list_is_read(faces):
    found = scface.load(faces / "eval/scface")
    assert [int((found.distance_N == distance).sum()) for distance in range(4)] == [120, 600, 600, 600]
    assert found.num_left_out == 360


def test_an_image_that_is_missing_is_a_failure_in_its_place(tmp_path, listing):
    (tmp_path / "aligned/001_frontal.jpg").unlink()
    images = list(scface.load(tmp_path).images())
    assert images[0] == Failure("001_frontal.jpg", "No such file or directory")
    assert len(images) == 35


@pytest.mark.parametrize("name", ["001_cam9_1", "001_cam1_4", "001_cam1", "frontal", "x01_frontal", "001_side"])
def test_a_name_of_no_known_form_is_refused_with_its_line(tmp_path, listing, name):
    listing.write_text(listing.read_text() + f"{name}\n")
    with pytest.raises(ValueError, match=rf"all\.txt, line 51: wanted a name like 001_frontal.*{name}"):
        scface.load(tmp_path)


@pytest.mark.parametrize("name", ["002_cam1_1", "002_cam6_1"])
def test_a_name_listed_twice_is_refused(tmp_path, listing, name):
    listing.write_text(listing.read_text() + f"{name}\n")
    with pytest.raises(ValueError, match=rf"line 51: {name} is also in line 1\d"):
        scface.load(tmp_path)


@pytest.mark.parametrize(("kind", "message"), [("frontal", "gallery"), ("_3\t", "probes at distance 3")])
def test_a_list_without_gallery_or_a_distance_is_refused(tmp_path, listing, kind, message):
    listing.write_text("".join(line for line in listing.read_text().splitlines(keepends=True) if kind not in line))
    with pytest.raises(ValueError, match=f"lists no {message}"):
        scface.load(tmp_path)


def test_blank_lines_and_file_extensions_do_no_harm(tmp_path, listing):
    listing.write_text("\n" + listing.read_text().replace("\t", ".jpg\t", 1))
    assert len(scface.load(tmp_path).names) == 35


@pytest.mark.parametrize("missing", ["all.txt", "aligned"])
def test_a_missing_part_is_named(tmp_path, listing, missing):
    (tmp_path / missing).rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"should hold all\.txt and the folder aligned"):
        scface.load(tmp_path)
