"""Folders of the weights that runs start from: those of other runs hold one constant file."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.runtime import artifacts, initial_folders


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def files() -> dict[str, str]:
    return {str(path): path.read_text() for path in sorted(Path("initial").rglob("*")) if path.is_file()}


def test_a_run_that_starts_from_nothing_has_a_constant_file_and_others_are_left_to_their_stage():
    tuned = artifacts.initial_folder("tuned")
    tuned.mkdir(parents=True)
    (tuned / initial_folders.WEIGHTS).write_text("weights")
    initial_folders.write(["plain", "tuned"], {"tuned"})
    assert files() == {
        "initial/README.txt": initial_folders.README_TEXT, "initial/plain/none.txt": initial_folders.NONE_TEXT,
        "initial/tuned/weights.pt": "weights",
    }  # fmt: skip
    before = {path: path.stat().st_mtime_ns for path in Path("initial").rglob("*")}
    initial_folders.write(["plain", "tuned"], {"tuned"})
    assert {path: path.stat().st_mtime_ns for path in Path("initial").rglob("*")} == before


def test_a_run_that_starts_from_weights_no_more_keeps_none_of_them():
    initial_folders.write(["once"], ())
    constant = files()
    for name in (initial_folders.WEIGHTS, initial_folders.ABOUT, initial_folders.CLASSES):
        (artifacts.initial_folder("once") / name).write_text("x")
    (artifacts.initial_folder("once") / initial_folders.NONE).unlink()
    initial_folders.write(["once"], ())
    assert files() == constant
