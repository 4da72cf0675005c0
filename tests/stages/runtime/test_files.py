"""Folders take their place whole, by an exchange or in two steps, and a line after half a line is a line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stages.runtime import files, progress


def folder(path: Path, text: str) -> Path:
    path.mkdir()
    (path / "a.txt").write_text(text)
    return path


@pytest.mark.parametrize("exchanges", [True, False], ids=["in one step", "in two"])
def test_a_folder_takes_the_place_of_another(exchanges: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not exchanges:
        monkeypatch.setattr(files, "_exchanged", lambda first, second: False)
    new, old = folder(tmp_path / "new", "after"), folder(tmp_path / "old", "before")
    files.replace_folder(new, old)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert (old / "a.txt").read_text() == "after"
    files.replace_folder(folder(tmp_path / "new", "first"), tmp_path / "nobody")
    assert (tmp_path / "nobody/a.txt").read_text() == "first"


def test_a_folder_that_cannot_be_exchanged_is_as_it_was(tmp_path: Path) -> None:
    old = folder(tmp_path / "old", "before")
    with pytest.raises(FileNotFoundError):
        files.replace_folder(tmp_path / "not there", old)
    assert (old / "a.txt").read_text() == "before"


@pytest.mark.parametrize(("text", "cut"), [("", False), ("a\n", False), ("a\nb", True), ("\n", False), (None, False)])
def test_half_a_line_is_seen(text: str | None, cut: bool, tmp_path: Path) -> None:
    path = tmp_path / "lines"
    if text is not None:
        path.write_text(text)
    assert files.is_cut_short(path) is cut


def test_a_measurement_after_half_a_line_is_a_line_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "train.jsonl"
    monkeypatch.setenv("FACET_LOG_FILE", str(path))
    path.write_text('{"step": 1}\n{"ste')
    progress.log_point(2, loss=0.5)
    first, half, last = path.read_text().splitlines()
    assert (json.loads(first)["step"], half, json.loads(last)["step"]) == (1, '{"ste', 2)
