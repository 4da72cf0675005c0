"""Adience and XQLFW: both layouts, names of all kinds, and what is said of lines that do not fit."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from stages.core.metrics.processing import Failure
from stages.datasets import pair_list
from tests.stages import small_sets


@pytest.fixture
def listing(tmp_path):
    return small_sets.write_pair_list(tmp_path / "adience")


def as_sets(found: pair_list.PairSet) -> set[tuple[str, str, bool]]:
    triples = zip(found.first_P, found.second_P, found.is_same_P, strict=True)
    return {(found.names[a], found.names[b], bool(same)) for a, b, same in triples}


def test_pairs_are_read_in_their_order_with_their_answers(tmp_path, listing):
    found = pair_list.load(tmp_path / "adience")
    assert (found.name, len(found.names), found.is_same_P.size, int(found.is_same_P.sum())) == ("adience", 12, 66, 12)
    first = listing.read_text().splitlines()[0].split()
    assert [found.names[found.first_P[0]], found.names[found.second_P[0]]] == [f"images/{stem}.jpg" for stem in first[:2]]
    assert found.first_P.dtype == np.int32
    assert all(isinstance(image, np.ndarray) for image in found.images())


def test_adience_without_a_list_is_all_pairs_of_its_images(tmp_path, listing):
    listed = as_sets(pair_list.load(tmp_path / "adience"))
    listing.unlink()
    found = as_sets(pair_list.load(tmp_path / "adience"))
    assert {(frozenset(pair[:2]), pair[2]) for pair in found} == {(frozenset(pair[:2]), pair[2]) for pair in listed}


def test_xqlfw_is_read_as_it_is_published_with_names_in_any_script(tmp_path):
    small_sets.write_xqlfw(tmp_path / "xqlfw")
    found = pair_list.load(tmp_path / "xqlfw")
    assert found.is_same_P.tolist() == [True] * 3 + [False] * 3
    assert found.names[2] == "xqlfw_aligned_112/José_Niño/José_Niño_0001.jpg"
    assert found.names[found.first_P[3]].endswith("Ann_Lee_0001.jpg")
    assert found.names[found.second_P[3]].endswith("José_Niño_0002.jpg")
    assert all(isinstance(image, np.ndarray) for image in found.images())


def test_names_with_and_without_extension_are_one_image_and_order_of_lines_is_kept(tmp_path, listing):
    listing.write_text("p_1_img_4 p_1_img_3.jpg 1\n\np_0_img_0.JPG p_1_img_4 0\n")
    found = pair_list.load(tmp_path / "adience")
    assert found.names == ("images/p_1_img_4.jpg", "images/p_1_img_3.jpg", "images/p_0_img_0.jpg")
    assert (found.first_P.tolist(), found.second_P.tolist()) == ([0, 2], [1, 0])


def test_a_pair_listed_twice_stays_twice(tmp_path, listing):
    listing.write_text("p_1_img_4 p_1_img_3 1\n" * 2)
    found = pair_list.load(tmp_path / "adience")
    assert (len(found.names), found.first_P.tolist()) == (2, [0, 0])


def test_an_image_that_is_missing_or_torn_is_a_failure_in_its_place(tmp_path, listing):
    (tmp_path / "adience/images/p_0_img_1.jpg").unlink()
    (tmp_path / "adience/images/p_0_img_2.jpg").write_bytes(b"\xff\xd8torn")
    images = list(pair_list.load(tmp_path / "adience").images())
    assert images[1] == Failure("images/p_0_img_1.jpg", "No such file or directory")
    assert isinstance(images[2], Failure)
    assert len(images) == 12


def test_files_of_cr_fiqas_scripts_get_their_colours_back(tmp_path, listing):
    red = np.zeros((112, 112, 3), np.uint8)
    red[..., 2] = 255
    for path in (tmp_path / "adience/images").iterdir():
        path.write_bytes(cv2.imencode(".png", red[..., ::-1])[1].tobytes())  # as cv2.imwrite stores an RGB array
    image = next(pair_list.load(tmp_path / "adience", swapped=True).images())
    assert np.array_equal(image, red)
    assert np.array_equal(next(pair_list.load(tmp_path / "adience").images()), red[..., ::-1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a b 1\na b\n", r"pair_list\.txt, line 2: wanted two images and 0 or 1, got 'a b'"),
        ("a b 1\n\na b 2\n", r"pair_list\.txt, line 3: wanted two images and 0 or 1, got 'a b 2'"),
        ("a b 1 1\n", r"line 1: wanted two images"),
        ("a b 1\na b 1 2 3\n", r"pair_list\.txt cannot be read .* line 2"),
        ("", "lists no pairs"),
        ("\n\n", "lists no pairs"),
    ],
)
def test_a_list_that_does_not_fit_is_refused_with_its_line(tmp_path, listing, text, message):
    listing.write_text(text)
    with pytest.raises(ValueError, match=message):
        pair_list.load(tmp_path / "adience")


def test_a_list_that_is_not_text_is_refused(tmp_path, listing):
    listing.write_bytes(b"\x89PNG\r\n\x1a\n\x00\xff")
    with pytest.raises(ValueError, match=r"pair_list\.txt, line 1: wanted two images and 0 or 1"):
        pair_list.load(tmp_path / "adience")


def test_a_list_that_is_not_utf_8_is_windows_1252(tmp_path, listing):
    listing.write_bytes(b"a \xff 1\n")
    assert pair_list.load(tmp_path / "adience").names == ("images/a.jpg", "images/ÿ.jpg")


@pytest.mark.parametrize("line", ["Ann_Lee 1", "Ann_Lee 1 x", "Ann_Lee 1 Bo_Ek 2 3"])
def test_a_published_pair_that_does_not_fit_is_refused_with_its_line(tmp_path, line):
    path = small_sets.write_xqlfw(tmp_path / "xqlfw")
    path.write_text(path.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"xqlfw_pairs\.txt, line 8: wanted PERSON K K"):
        pair_list.load(tmp_path / "xqlfw")


@pytest.mark.parametrize("keep", range(2, 7))
def test_an_xqlfw_list_that_was_cut_between_two_lines_is_refused(tmp_path, keep):
    path = small_sets.write_xqlfw(tmp_path / "xqlfw")
    path.write_text("\n".join(path.read_text().splitlines()[:keep]) + "\n")
    with pytest.raises(ValueError, match=f"its first line says 6 pairs, it lists {keep - 1}: was it cut short"):
        pair_list.load(tmp_path / "xqlfw")


def test_images_without_list_and_without_persons_in_their_names_are_refused(tmp_path, listing):
    listing.unlink()
    (tmp_path / "adience/images/other.jpg").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"pair_list\.txt is missing, and other\.jpg"):
        pair_list.load(tmp_path / "adience")


def test_two_files_of_one_name_are_refused(tmp_path, listing):
    (tmp_path / "adience/images/p_0_img_0.png").write_bytes(b"")
    with pytest.raises(ValueError, match="have the same name p_0_img_0"):
        pair_list.load(tmp_path / "adience")


def test_a_folder_of_neither_layout_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"should hold images/ and pair_list\.txt"):
        pair_list.load(tmp_path / "adience")
