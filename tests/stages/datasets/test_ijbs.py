"""IJB-S: templates of its five searches, as AdaFace's PFE/ijbs.py makes them; what does not fit is named."""

from __future__ import annotations

import json

import numpy as np
import pytest

from stages.core.metrics.processing import Failure
from stages.datasets import ijbs
from tests.stages import small_sets
from tests.support import ROOT

GOLDEN = ROOT / "tests" / "golden"


@pytest.fixture
def protocols(tmp_path):
    return small_sets.write_ijbs(tmp_path)


def people(found: ijbs.IjbsSet, rows) -> list[int]:
    return sorted(found.subject_T[rows].tolist())


def members(found: ijbs.IjbsSet, row: int) -> list[str]:
    frame_K, template_K = found.frame_template
    return sorted(found.names[frame] for frame in frame_K[template_K == row])


def test_probes_are_everybody_in_each_listed_video_and_multiview_each_of_them_once(tmp_path, protocols):
    found = ijbs.load(tmp_path)
    assert people(found, found.probes["surveillance_to_single"]) == sorted(list(range(1, 7)) * 2)
    assert people(found, found.probes["multiview_surveillance_to_booking"]) == list(range(1, 7))
    # UAV: both people of video 21, and the person of image 503
    assert people(found, found.probes["uav_surveillance_to_booking"]) == [2, 3, 5]
    assert np.array_equal(found.probes["surveillance_to_single"], found.probes["surveillance_to_booking"])


def test_galleries_hold_one_template_of_each_subject(tmp_path, protocols):
    found = ijbs.load(tmp_path)
    for protocol in ijbs.PROTOCOLS:
        assert people(found, found.gallery1[protocol]) == [1, 3]
        assert people(found, found.gallery2[protocol]) == [2, 4]


def test_templates_hold_the_faces_of_their_kind(tmp_path, protocols):
    found = ijbs.load(tmp_path)
    assert members(found, found.gallery1["surveillance_to_single"][0]) == ["1/img_101.jpg"]
    assert members(found, found.gallery1["surveillance_to_booking"][0]) == ["1/img_101.jpg", "1/img_102.jpg"]
    assert members(found, found.gallery1["surveillance_to_surveillance"][0]) == [
        "1/videos_11_1.jpg", "1/videos_11_2.jpg",
    ]  # fmt: skip
    # subject 1 is in its own videos 10 and 11, and in 60 and 61 of its neighbour
    multi = next(r for r in found.probes["multiview_surveillance_to_booking"] if found.subject_T[r] == 1)
    assert members(found, multi) == [f"1/videos_{v}_{f}.jpg" for v in (10, 11, 60, 61) for f in (1, 2)]


def test_a_face_of_no_template_is_counted_and_left_out(tmp_path, protocols):
    found = ijbs.load(tmp_path)
    assert found.num_unused == sum(1 for k in range(1, 7) for i in (1, 2, 3) if k > 4 or i == 3) - 1
    assert "6/img_601.jpg" not in found.names
    assert all(isinstance(image, np.ndarray) for image in found.images())


def test_a_template_without_any_face_stays_empty(tmp_path, protocols):
    for face in (tmp_path / "aligned/2").glob("videos_20_*"):
        face.unlink()
    found = ijbs.load(tmp_path)
    row = found.template_name_T.index("2:videos/20.mp4")
    assert members(found, row) == []
    assert row in found.probes["surveillance_to_single"]


def test_an_image_list_says_which_faces_count_and_a_missing_one_is_a_failure(tmp_path, protocols):
    (tmp_path / "image_list_mtcnn_fail_skipped_v1.csv").write_text(
        ",path\n0,faces/1/img_101.jpg\n1,1/videos_10_1.jpg\n2,1/videos_10_9.jpg\n"
    )
    found = ijbs.load(tmp_path)
    assert found.names == ("1/img_101.jpg", "1/videos_10_1.jpg", "1/videos_10_9.jpg")
    assert list(found.images())[2] == Failure("1/videos_10_9.jpg", "No such file or directory")


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("cs6_metadata.csv", "x,videos/1.mp4", r"cs6_metadata\.csv, line 68: a subject should be a whole number"),
        ("cs6_metadata.csv", "7", r"cs6_metadata\.csv, line 68: wanted 2 fields or more, got 1"),
        ("cs6_surveillance_to_surveillance_probe.csv", "videos/9.mp4", r"line 8: .*has no 'videos/9\.mp4'"),
        ("cs6_uav_to_single-booking_probe.csv", "img/9.png", r"line 4: .*has no 'img/9\.png'"),
        ("galleries/cs6_surveillance_to_surveillance_g1.csv", "9,6,videos/11.mp4", r"has no subject 6 in"),
        ("galleries/cs6_surveillance_to_single_g1.csv", "9,1,img/102.png", "subject 1 has more than one gallery"),
        ("galleries/cs6_surveillance_to_booking_g2.csv", "9,1,img/102.png", "subject 1 has more than one gallery"),
    ],
)
def test_a_line_that_does_not_fit_is_refused_with_its_place(tmp_path, protocols, file, line, message):
    with (protocols / file).open("a") as stream:
        stream.write(line + "\n")
    with pytest.raises(ValueError, match=message):
        ijbs.load(tmp_path)


@pytest.mark.parametrize("name", ["1/face.jpg", "1/videos_10.jpg"])
def test_a_face_of_no_known_form_is_refused(tmp_path, protocols, name):
    (tmp_path / "aligned" / name).write_bytes(b"")
    with pytest.raises(ValueError, match=rf"{name}: a face of IJB-S is called"):
        ijbs.load(tmp_path)


@pytest.mark.parametrize(
    "missing", ["aligned", "protocols/cs6_metadata.csv", "protocols/galleries/cs6_surveillance_to_single_g2.csv"]
)
def test_a_missing_part_is_named(tmp_path, protocols, missing):
    (tmp_path / missing).rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match=missing.split("/")[-1]):
        ijbs.load(tmp_path)


def test_lists_that_are_empty_or_not_text_are_refused(tmp_path, protocols):
    path = protocols / "cs6_uav_to_single-booking_probe.csv"
    path.write_text("FILENAME\n")
    with pytest.raises(ValueError, match="has no entries"):
        ijbs.load(tmp_path)
    path.write_bytes(b"FILENAME\n\xff\xfe\n")
    with pytest.raises(ValueError, match=r"cs6_metadata\.csv has no 'ÿþ'"):
        ijbs.load(tmp_path)


def test_templates_are_those_of_the_authors_own_code(tmp_path, protocols):
    wanted = json.loads((GOLDEN / "ijbs_templates.json").read_text())  # made by tests/golden/make_ijbs.py
    found = ijbs.load(tmp_path)
    for protocol in ijbs.PROTOCOLS:
        for part in ("probes", "gallery1", "gallery2"):
            rows = getattr(found, part)[protocol].tolist()
            ours = sorted([int(found.subject_T[row]), members(found, row)] for row in rows)
            assert ours == wanted[protocol][part]
