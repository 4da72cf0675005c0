"""The stage `initial`, and the graph around it: what is run again when weights change, and what is not."""

from __future__ import annotations

import argparse
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from stages import initial, resolve
from stages.runtime import artifacts, initial_folders
from tests.support import ROOT, Project

RAN = re.compile(r"^Running stage '(?:[^':]*:)?([^']+)'", re.MULTILINE)
TRAIN = "graph/train_backbone/dvc.yaml:train_backbone"


def write_model(folder: Path, weights: bytes = b"weights", classes: str | None = None) -> Path:
    folder.mkdir(parents=True)
    (folder / "weights.pt").write_bytes(weights)
    model = {"backbone": {"name": "x"}, "head": {}, "color_order": "BGR", "value_range": [-1.0, 1.0], "dataset": "a"}
    artifacts.write_json(folder / "model.json", {**model, "weights_sha256": artifacts.sha256(folder / "weights.pt")})
    if classes is not None:
        (folder / "classes.txt").write_text(classes)
    return folder


def run(*arguments: object) -> dict[str, bytes]:
    """Run the stage for the run `tuned`; return its files."""
    initial.main(initial.parser().parse_args(["tuned", *map(str, arguments)]))
    return {path.name: path.read_bytes() for path in artifacts.initial_folder("tuned").iterdir()}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_same_weights_in_another_folder_are_the_same_files(here: Path):
    made = run(write_model(here / "models/one", classes="ann\nbo\n"))
    assert set(made) == {initial_folders.ABOUT, initial_folders.WEIGHTS, initial_folders.CLASSES}
    other = write_model(here / "far/two", classes="ann\nbo\n")
    about = artifacts.read_json(other / "model.json")
    artifacts.write_json(other / "model.json", {**about, "dataset": "b"})  # what it is called changes no weight
    assert run(other) == made
    assert set(run(write_model(here / "models/three"))) == {initial_folders.ABOUT, initial_folders.WEIGHTS}


def test_a_folder_without_a_model_or_with_other_weights_is_refused_and_leaves_what_was_there(here: Path):
    made = run(write_model(here / "models/one"))
    with pytest.raises(FileNotFoundError, match=r"models/none/model.json is missing: `facet import CHECKPOINT NAME` makes"):
        run("models/none")
    (here / "models/one/weights.pt").write_bytes(b"others")
    with pytest.raises(ValueError, match=r"models/one/weights.pt does not match its model.json: import it again"):
        run("models/one")
    assert {path.name: path.read_bytes() for path in artifacts.initial_folder("tuned").iterdir()} == made


def test_resolve_says_which_model_is_not_there_and_writes_the_folders_of_all_other_runs(
    here: Path, capsys: pytest.CaptureFixture[str]
):
    for name in ("profiles", "tables"):
        (here / name).symlink_to(ROOT / name)
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    other = next(iter(tree["runs"].values()))
    tree["runs"] |= {"tuned": {**other, "initial": {"model": "ir101"}}, "more": {**other, "initial": {"model": "tuned"}}}
    tree["initial"] = {"tuned": {"folder": "models/ir101"}, "more": {"folder": "runs/tuned/backbone"}}
    (here / "params.yaml").write_text(yaml.safe_dump(tree))
    resolve.main(argparse.Namespace())
    missing = "initial@tuned will fail: models/ir101 holds no model; `facet import CHECKPOINT ir101` makes it"
    assert [line for line in capsys.readouterr().err.splitlines() if line.startswith("initial@")] == [missing]
    assert {path.name for path in (here / "initial").iterdir()} == {"README.txt", *tree["runs"]} - {"tuned", "more"}
    write_model(here / "models/ir101")
    resolve.main(argparse.Namespace())
    assert "initial@" not in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_training_runs_again_if_its_weights_change_and_no_other_does(copy_reproduced: Callable[[], Project]):
    """Through plain DVC: the order of the graph, what is stale, and what a lost folder costs."""
    project = copy_reproduced()
    tuned = {"dataset": "demo", "head": {"name": "cosface", "margin": 0.35}, "initial": {"model": "arcface"}}

    def repro() -> set[str]:
        targets = (f"{TRAIN}@{run}" for run in ("tuned", "cosface", "adaface"))
        return set(RAN.findall(project.run("dvc", "repro", *targets, timeout=480)))

    project.edit("params.yaml", {"runs": {"tuned": tuned}})
    refused = project.run("dvc", "repro", f"{TRAIN}@tuned", check=False)
    assert "write `tuned: {folder: runs/arcface/backbone}` there" in refused
    project.edit("params.yaml", {"initial": {"tuned": {"folder": "runs/arcface/backbone"}}})
    assert repro() == {"resolve", "initial@tuned", "train_backbone@tuned"}
    shutil.rmtree(project.path / "initial")
    assert repro() == {"resolve"}
    project.edit("params.yaml", {"runs": {"arcface": {"head": {"margin": 0.2}}}})
    assert repro() == {"resolve", "train_backbone@arcface", "initial@tuned", "train_backbone@tuned"}
    weights = [artifacts.sha256(project.path / path) for path in ("runs/arcface/backbone/weights.pt", "initial/tuned/weights.pt")]
    assert weights[0] == weights[1] == artifacts.read_json(project.path / "results/tuned/train.json")["initial_weights_sha256"]
