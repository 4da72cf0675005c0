"""IJB's lists: what they say is read, and what does not fit is named with file and line."""

from __future__ import annotations

import numpy as np
import pytest

from stages.core.metrics.processing import Failure
from stages.datasets import ijb
from tests.stages import small_sets


@pytest.fixture
def meta(tmp_path):
    return small_sets.write_ijb(tmp_path)


def edit(path, line, text):
    """Replace one line, counted from 1; None removes it."""
    lines = path.read_text().splitlines()
    lines[line - 1 : line] = [] if text is None else [text]
    path.write_text("\n".join(lines) + "\n")


def test_lists_and_images_are_read(tmp_path, meta):
    found = ijb.load(tmp_path, "IJBB")
    assert found.names[:2] == ("1.jpg", "2.jpg")
    assert found.template_N[:4].tolist() == [1, 1, 1, 2]
    assert found.media_N[:4].tolist() == [100, 101, 101, 200]
    assert found.detector_score_N[:3].tolist() == pytest.approx([0.90, 0.91, 0.92])
    assert (found.first_P.size, int(found.is_same_P.sum())) == (190, 9)
    images = list(found.images())
    assert len(images) == 60
    np.testing.assert_array_equal(images[0], small_sets.face(0, 100))


def test_real_lists_are_read(faces):
    found = ijb.load(faces / "eval/ijb", "IJBB")
    assert (len(found.names), len(set(found.template_N.tolist()))) == (2732, 874)
    assert (found.is_same_P.size, int(found.is_same_P.sum())) == (229_351, 851)


def test_an_image_that_is_missing_torn_or_without_sensible_landmarks_is_a_failure_in_its_place(tmp_path, meta):
    crops = tmp_path / "IJBB/loose_crop"
    (crops / "1.jpg").unlink()
    (crops / "2.jpg").write_bytes(b"no image")
    edit(meta / "ijbb_name_5pts_score.txt", 3, "3.jpg " + "5 5 " * 5 + "0.9")
    images = list(ijb.load(tmp_path, "IJBB").images())
    assert len(images) == 60
    assert images[0] == Failure("1.jpg", "No such file or directory")
    assert isinstance(images[1], Failure)
    assert "not a complete JPEG" in images[1].reason
    assert isinstance(images[2], Failure)
    assert "five distinct landmarks" in images[2].reason
    assert not isinstance(images[3], Failure)


def test_names_that_are_not_ascii_are_read(tmp_path, meta):
    for name in ("name_5pts_score", "face_tid_mid"):
        path = meta / f"ijbb_{name}.txt"
        path.write_text(path.read_text().replace("1.jpg ", "Åsa_ß.jpg ", 1), encoding="utf-8")
    (tmp_path / "IJBB/loose_crop/1.jpg").rename(tmp_path / "IJBB/loose_crop/Åsa_ß.jpg")
    found = ijb.load(tmp_path, "IJBB")
    assert found.names[0] == "Åsa_ß.jpg"
    assert not isinstance(next(found.images()), Failure)


@pytest.mark.parametrize("name", ["name_5pts_score", "face_tid_mid", "template_pair_label"])
def test_a_missing_list_is_named(tmp_path, meta, name):
    (meta / f"ijbb_{name}.txt").unlink()
    with pytest.raises(FileNotFoundError, match=f"ijbb_{name}.txt is missing"):
        ijb.load(tmp_path, "IJBB")


def test_missing_crops_are_named(tmp_path, meta):
    with pytest.raises(FileNotFoundError, match=r"IJBC.loose_crop is missing: put the loose crops of IJBC there"):
        ijb.load(tmp_path, "IJBC")


@pytest.mark.parametrize(
    ("name", "line", "text", "message"),
    [
        ("name_5pts_score", 4, "4.jpg 1 2 3", r"name_5pts_score\.txt, line 4: wanted a name and 11 numbers, got 4"),
        ("name_5pts_score", 4, "4.jpg " + "x " * 11, r"name_5pts_score\.txt, line 4: .*could not convert"),
        ("name_5pts_score", 4, "2.jpg " + "1 " * 11, r"line 4: 2\.jpg is also in line 2"),
        ("name_5pts_score", 60, None, r"face_tid_mid\.txt, line 60: got 60\.jpg where .* has no further image"),
        ("face_tid_mid", 5, "5.jpg 2", r"face_tid_mid\.txt, line 5: wanted a name, a template and a medium, got 2"),
        ("face_tid_mid", 5, "5.jpg 2 m", r"face_tid_mid\.txt, line 5: template and media should be whole numbers"),
        ("face_tid_mid", 5, "7.jpg 2 200", r"face_tid_mid\.txt, line 5: got 7\.jpg where .* has 5\.jpg"),
        ("face_tid_mid", 60, None, r"face_tid_mid\.txt ends after 59 images, .* has 60"),
        (
            "template_pair_label",
            7,
            "1 8",
            r"template_pair_label\.txt, line 7: wanted two templates and a label, got '1 8'",
        ),
        ("template_pair_label", 7, "1 8 0 0", r"template_pair_label\.txt, line 7: wanted two templates and a label"),
        ("template_pair_label", 7, "1 eight 0", r"template_pair_label\.txt, line 7: .* got '1 eight 0'"),
        ("template_pair_label", 7, "1 8 0.5", r"template_pair_label\.txt, line 7: .* got '1 8 0\.5'"),
        ("template_pair_label", 7, "1 8 2", r"template_pair_label\.txt, line 7: the label should be 0 or 1, got 2"),
        ("template_pair_label", 7, "1 88 0", r"template_pair_label\.txt, line 7: no image of template 88 in ijbb_face"),
        ("template_pair_label", 1, "\n\n77 1 0", r"template_pair_label\.txt, line 3: no image of template 77"),
    ],
)
def test_a_line_that_does_not_fit_is_named(tmp_path, meta, name, line, text, message):
    edit(meta / f"ijbb_{name}.txt", line, text)
    with pytest.raises(ValueError, match=message):
        ijb.load(tmp_path, "IJBB")


@pytest.mark.parametrize("name", ["name_5pts_score", "template_pair_label"])
@pytest.mark.parametrize("text", ["", "\n\n"])
def test_an_empty_list_is_refused(tmp_path, meta, name, text):
    (meta / f"ijbb_{name}.txt").write_text(text)
    with pytest.raises(ValueError, match=f"ijbb_{name}.txt"):
        ijb.load(tmp_path, "IJBB")


def test_a_name_that_the_other_list_lacks_is_told_in_any_encoding(tmp_path, meta):
    (meta / "ijbb_face_tid_mid.txt").write_bytes("Å.jpg 1 1\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"ijbb_face_tid_mid\.txt, line 1: got Å\.jpg where"):
        ijb.load(tmp_path, "IJBB")
