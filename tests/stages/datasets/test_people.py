"""Folders of people: what counts as an image, and that nothing is passed over without a word."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stages.datasets import people


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode("utf-8", "surrogateescape"))
    return folder


def test_identities_are_numbered_in_the_order_of_their_names(tmp_path: Path):
    found = people.load(fill(tmp_path, "b/2.jpg", "a/1.JPEG", "b/1.png", "a/0.webp"))
    assert found.identities == ("a", "b")
    assert found.names == ("a/0.webp", "a/1.JPEG", "b/1.png", "b/2.jpg")
    assert found.label_N.tolist() == [0, 0, 1, 1]
    assert found.image_bytes(2) == b"b/1.png"
    assert found.passed_over == {}


def test_what_is_passed_over_is_listed_with_its_reason(tmp_path: Path):
    fill(tmp_path, "a/1.jpg", "a/._1.jpg", "a/.DS_Store", "a/Thumbs.db", "a/1.heic", "a/more/2.jpg", "list.txt", ".git/x", "c/note.txt")
    (tmp_path / "empty").mkdir()
    found = people.load(tmp_path)
    assert (found.identities, found.names) == (("a",), ("a/1.jpg",))
    assert found.passed_over == {
        people.HIDDEN: [".git", "a/.DS_Store", "a/._1.jpg"],
        people.NO_IMAGE: ["a/1.heic", "a/Thumbs.db", "c/note.txt"],
        people.NESTED: ["a/more"],
        people.EMPTY: ["c", "empty"],
        people.BESIDE: ["list.txt"],
    }
    assert f"3 x {people.HIDDEN}, such as '.git'" in found.describe_passed_over()


def test_names_that_are_not_utf8_are_read_and_those_with_line_breaks_are_passed_over(tmp_path: Path):
    fill(tmp_path, os.fsdecode(b"m\xfcller/\xff.jpg"), "a/1\n2.jpg", "a/1.jpg")
    found = people.load(tmp_path)
    assert [os.fsencode(name) for name in found.names] == [b"a/1.jpg", b"m\xfcller/\xff.jpg"]
    assert found.passed_over == {people.ODD_NAME: ["a/1\n2.jpg"]}


def test_a_folder_without_people_says_what_was_wanted(tmp_path: Path):
    fill(tmp_path, "1.jpg")
    with pytest.raises(ValueError, match=r"has no folder with images: wanted a folder for each person, IDENTITY/NAME\.jpg"):
        people.load(tmp_path)
