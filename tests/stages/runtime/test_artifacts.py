from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from stages.runtime import artifacts, files


class Wanted(BaseModel, extra="forbid"):
    width: int


def test_a_folder_whose_writing_fails_leaves_the_old_one_as_it_was(tmp_path: Path):
    path = tmp_path / "out"
    with artifacts.write_folder(path) as folder:
        (folder / "a").write_text("old")
    with pytest.raises(RuntimeError), artifacts.write_folder(path) as folder:
        (folder / "a").write_text("new")
        raise RuntimeError
    assert (path / "a").read_text() == "old"


def test_a_leftover_of_a_killed_stage_does_not_leak_into_the_next(tmp_path: Path):
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "half").write_text("")
    with artifacts.write_folder(tmp_path / "out") as folder:
        (folder / "whole").write_text("")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["whole"]
    assert not (tmp_path / "out.partial").exists()


def test_json_refuses_nan_rather_than_writing_what_others_cannot_read(tmp_path: Path):
    with pytest.raises(ValueError):
        artifacts.write_json(tmp_path / "x.json", {"rate": float("nan")})
    assert not (tmp_path / "x.json").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [("other: {}", ["no section 'train'", "other"]), ("train: {width: wide}", ["width", "wide"]), ("train: {}", ["width"])],
)
def test_a_section_that_does_not_fit_says_what_is_wrong(tmp_path: Path, text: str, words: list[str]):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ValueError) as caught:
        artifacts.read_section(path, "train", Wanted)
    for word in words:
        assert word in str(caught.value)


def test_a_missing_resolved_file_says_who_writes_it(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="dvc repro"):
        artifacts.read_section(tmp_path / "run.yaml", "train", Wanted)


def test_a_write_that_fails_leaves_the_file_before_and_nothing_aside(tmp_path: Path):
    path = tmp_path / "made/file.txt"
    for shared in (False, True):
        with files.replacing(path, shared=shared) as aside:
            aside.write_text("whole")
        with pytest.raises(OSError, match="full"), files.replacing(path, shared=shared) as aside:
            aside.write_text("ha")
            raise OSError("full")
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]
