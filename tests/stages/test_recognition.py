"""Pointers to networks that judge the scores of all runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stages import recognition


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs/arcface/backbone"
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(json.dumps({"weights_sha256": "one"}))
    return tmp_path


def run(*arguments: str) -> None:
    recognition.main(recognition.parser().parse_args(arguments))


def test_a_pointer_names_the_folder_and_its_weights(home):
    run("judge", "runs/arcface/backbone")
    tree = json.loads((home / "recognition/judge.json").read_text())
    assert tree == {"folder": "runs/arcface/backbone", "weights_sha256": "one"}
    assert recognition.backbone("judge") == Path("runs/arcface/backbone")


def test_without_a_name_the_folder_is_there_all_the_same(home):
    run()
    assert [path.name for path in (home / "recognition").iterdir()] == ["names.json"]


def test_without_a_pointer_a_run_is_found_by_its_name(home):
    assert recognition.backbone("arcface") == Path("runs/arcface/backbone")
    with pytest.raises(LookupError, match="no model 'nobody'"):
        recognition.backbone("nobody")


def test_weights_that_changed_after_the_pointer_was_written_are_refused(home):
    run("judge", "runs/arcface/backbone")
    (home / "runs/arcface/backbone/model.json").write_text(json.dumps({"weights_sha256": "two"}))
    with pytest.raises(ValueError, match="other weights"):
        recognition.backbone("judge")


def test_a_folder_without_a_model_is_refused(home):
    with pytest.raises(FileNotFoundError, match="is missing: give the folder"):
        run("judge", "runs/nobody/backbone")


@pytest.mark.parametrize("arguments", [("names", "runs/arcface/backbone"), ("judge",)])
def test_a_name_comes_with_a_folder_and_is_none_that_is_taken(home, arguments):
    with pytest.raises(ValueError, match="give a name"):
        run(*arguments)
