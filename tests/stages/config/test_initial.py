"""`initial` in params.yaml: what a run says, and the section in which DVC finds the folder of its model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.config import params
from stages.config.training import Config
from tests.stages.small_training import config

ROOT = Path(__file__).resolve().parents[3]
FOLDER = {"tuned": {"folder": "runs/adaface/backbone"}}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("profiles", "tables"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def load(project: Path, initial: dict[str, Any], folders: dict[str, Any], **runs: Any) -> params.Params:
    tree = yaml.safe_load((ROOT / "tests/project/params.yaml").read_text())
    tree["runs"] |= {"tuned": {**tree["runs"]["adaface"], "initial": initial}, **runs}
    (project / "params.yaml").write_text(yaml.safe_dump({**tree, "initial": folders}))
    return params.load(project)


def test_a_run_without_weights_has_the_parameters_that_it_always_had():
    assert "initial" not in config().model_dump(mode="json")
    assert "initial" not in config().model_dump(mode="json", exclude={"processes"})
    tree = config().model_dump(mode="json")
    with_some = Config.model_validate({**tree, "initial": {"model": "base"}}).model_dump(mode="json")
    assert with_some.pop("initial") == {"model": "base", "head": "new", "frozen": [], "backbone_learning_rate": None}
    assert with_some == tree


def test_a_model_is_a_run_or_an_imported_checkpoint(project: Path):
    loaded = load(project, {"model": "adaface"}, FOLDER)
    assert loaded.runs["tuned"].train.initial is not None
    assert loaded.initial["tuned"].folder == "runs/adaface/backbone"
    for folder in ("models/ir101", "/far/models/ir101"):
        assert load(project, {"model": "ir101"}, {"tuned": {"folder": folder}}).initial["tuned"].folder == folder


@pytest.mark.parametrize(
    ("initial", "folders", "error", "words"),
    [
        ({"model": "adaface"}, {}, ValueError,
         "runs.tuned: it starts from adaface, and section `initial` of params.yaml, where DVC reads the folder, has no line "
         "for it: write `tuned: {folder: runs/adaface/backbone}` there"),
        ({"model": "ir101"}, {}, ValueError, "has no line for it: write `tuned: {folder: models/ir101}` there"),
        ({"model": "ir101"}, {"tuned": {"folder": "models/ir50"}}, ValueError, "has models/ir50 for it: write `tuned: {folder: m"),
        ({"model": "arcface"}, FOLDER, ValueError, "has runs/adaface/backbone for it: write `tuned: {folder: runs/arcface/back"),
        ({"model": "adaface"}, {**FOLDER, "x": {"folder": "models/x"}}, LookupError, "initial.x: no run 'x': there are adaface,"),
        ({"model": "adaface"}, {**FOLDER, "arcface": {"folder": "models/x"}}, ValueError, "initial.arcface: the run says no `init"),
        ({"model": "tuned"}, {"tuned": {"folder": "runs/tuned/backbone"}}, ValueError, "runs.tuned.initial: tuned starts from tuned"),
        ({"model": "../x"}, {}, ValueError, "runs.tuned: initial.model: String should match pattern"),
        ({"model": "adaface", "frozen": ["layer1"]}, FOLDER, ValueError, "a part begins with backbone or is the head, as backbone"),
        ({"model": "adaface", "frozen": ["head", "head"]}, FOLDER, ValueError, "each part may be listed once, got head, head"),
        ({"model": "adaface", "head": "old"}, FOLDER, ValueError, "initial.head: Input should be 'new' or 'keep'"),
        ({"model": "adaface", "freeze": []}, FOLDER, ValueError, "initial.freeze: no such field; there are model, head, frozen, b"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence_with_the_line_to_write(
    project: Path, initial: dict[str, Any], folders: dict[str, Any], error: type[Exception], words: str
):
    with pytest.raises(error, match=re.escape(words)):
        load(project, initial, folders)


def test_runs_that_start_from_one_another_in_a_circle_are_refused(project: Path):
    first = {"dataset": "demo", "head": {"name": "softmax"}, "initial": {"model": "tuned"}}
    folders = {"tuned": {"folder": "runs/first/backbone"}, "first": {"folder": "runs/tuned/backbone"}}
    with pytest.raises(ValueError, match="first starts from tuned starts from first"):
        load(project, {"model": "first"}, folders, first=first)
