"""`facet add-run --initial`: a run that starts from a model has its network, and DVC finds the folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from stages.config import params
from stages.models import model_files
from stages.runtime import program, yaml_text
from stages.tools import add_run, import_model
from tests.support import PARAMS, ROOT
from tests.support_backbones import NARROW_CONFIGS, build, fill, published_file


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(program.signal, "signal", lambda *_: None)
    monkeypatch.setattr(program, "die_with_parent", lambda: None)
    monkeypatch.setattr(model_files, "save_program", lambda *given: None)
    for name in ("profiles", "tables"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(PARAMS, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_add_run(*arguments: str) -> int:
    return program.run(add_run.main, add_run.parser(), [*arguments, "--yes"])


def written() -> dict[str, object]:
    return yaml_text.parse(Path("params.yaml").read_text())


def test_a_run_starts_from_another_run_whose_network_it_has_already():
    given = ("--like", "arcface", "--initial", "adaface", "--set", "initial.frozen=[backbone]")
    assert run_add_run("tuned", *given, "--table", "tuning") == 0
    tree = written()
    rows = yaml_text.parse(Path("tables/tuning.yaml").read_text())["rows"]
    assert rows == {"tuned": {"label": "arcface, from adaface, initial.frozen=[backbone]", "run": "tuned"}}
    assert tree["runs"]["tuned"] == {
        "dataset": "demo", "head": {"name": "arcface", "margin": 0.5},
        "initial": {"model": "adaface", "frozen": ["backbone"]},
    }  # fmt: skip
    assert tree["initial"] == {"tuned": {"folder": "runs/adaface/backbone"}}


def test_a_run_that_starts_from_an_imported_checkpoint_has_its_network_and_its_input():
    network = fill(build(NARROW_CONFIGS["magface"]))
    torch.save(published_file("magface", dict(network.state_dict())), "m.pth")
    assert program.run(import_model.main, import_model.parser(), ["m.pth", "mag", "--keep-head"]) == 0
    assert run_add_run("tuned", "--like", "adaface", "--initial", "mag", "--set", "backbone.dropout=0.1") == 0
    run = written()["runs"]["tuned"]
    assert run["backbone"] == {
        "units": [2, 1, 1, 1], "widths": [4, 8, 12, 16], "stem_stride": 2, "feature_dim": 16, "dropout": 0.1, "name": "magface"
    }  # fmt: skip
    assert (run["value_range"], run["initial"]) == ([0.0, 1.0], {"model": "mag"})
    assert "color_order" not in run  # the profile's is the model's
    assert params.load().initial["tuned"].folder == "models/mag"


def test_a_run_like_one_that_starts_from_weights_starts_from_them_too():
    assert run_add_run("tuned", "--like", "arcface", "--initial", "adaface") == 0
    assert run_add_run("slow", "--like", "tuned", "--set", "initial.backbone_learning_rate=0.001") == 0
    tree = written()
    assert tree["initial"]["slow"] == {"folder": "runs/adaface/backbone"}
    assert tree["runs"]["slow"]["initial"] == {"model": "adaface", "backbone_learning_rate": 0.001}


def test_a_model_that_is_not_there_is_refused_with_those_that_are(capsys: pytest.CaptureFixture[str]):
    before = Path("params.yaml").read_text()
    assert run_add_run("tuned", "--like", "arcface", "--initial", "nobody") == 2
    assert "no model 'nobody': there are none yet; `dvc repro` trains" in capsys.readouterr().err
    assert Path("params.yaml").read_text() == before
