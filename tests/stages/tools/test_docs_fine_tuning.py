"""docs/fine-tuning.md: the commands for a checkpoint of AdaFace's and images of one's own, and what they write."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch

from stages import initial, resolve, train_backbone, unpack
from stages.config import params
from stages.models import model_files
from stages.runtime import artifacts, devices, program
from stages.training.distributed import Processes
from tests.stages import small_sets
from tests.support import ROOT
from tests.support_backbones import NARROW_CONFIGS, build, fill, published_file

PAGE = (ROOT / "docs/fine-tuning.md").read_text()
MODULES = {"import": "import_model", "add": "add", "add-run": "add_run"}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project, a narrow network in AdaFace's layout, and a folder of three people."""
    monkeypatch.setattr(program.signal, "signal", lambda *_: None)
    monkeypatch.setattr(program, "die_with_parent", lambda: None)
    monkeypatch.setattr(model_files, "save_program", lambda path, *_, **__: path.write_bytes(b""))
    monkeypatch.setattr("stages.runtime.artifacts.STATE", tmp_path / "project/.facet")
    devices.prepare(1)
    for number in range(12):
        path = tmp_path / "mine" / ("ann", "bo", "cy")[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(small_sets.encoded(number % 3, number))
    (tmp_path / "project").mkdir()
    for name in ("profiles", "tables"):
        shutil.copytree(ROOT / name, tmp_path / "project" / name)
    for name in ("params.yaml", "models.yaml"):
        shutil.copy(ROOT / name, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    network = fill(build(NARROW_CONFIGS["adaface"]))
    torch.save(published_file("adaface", dict(network.state_dict())), "adaface_ir50_ms1mv2.ckpt")
    return tmp_path


def test_the_commands_of_the_page_make_a_run_that_trains_on_the_folder_from_the_checkpoint(
    project: Path, capsys: pytest.CaptureFixture[str]
):
    block = re.search(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    assert block is not None
    lines = block[1].replace("\\\n", "").splitlines()
    assert lines.pop() == "facet run mine"
    for line in lines:
        # a narrow network is not the published file, and nobody can be asked
        words = shlex.split(line.replace("--published adaface_ir50_ms1mv2", "").replace("/data/mine", str(project / "mine")))
        _, command, *arguments = words
        tool = importlib.import_module(f"stages.tools.{MODULES[command]}")
        more = [] if command == "import" else ["--yes"]
        assert program.run(tool.main, tool.parser(), [*arguments, *more]) == 0, capsys.readouterr().err
    loaded = params.load()
    assert (loaded.initial["tuned"].folder, list(loaded.tables)[-1]) == ("models/adaface_r50", "mine")
    train = loaded.runs["tuned"].train
    assert (train.dataset, train.schedule.learning_rate, train.head["scale"]) == ("mine", 0.01, 64)
    resolve.main(argparse.Namespace())
    unpack.main(unpack.parser().parse_args(["mine"]))
    initial.main(initial.parser().parse_args(["tuned", loaded.initial["tuned"].folder]))
    train_backbone.train("tuned", train, Processes())
    assert "tuned starts from adaface_r50; class centres are new" in capsys.readouterr().err
    found = artifacts.read_json(Path("results/tuned/train.json"))
    assert found["initial_weights_sha256"] == artifacts.sha256(Path("models/adaface_r50/weights.pt"))
    assert (artifacts.backbone_folder("tuned") / "classes.txt").read_text() == "ann\nbo\ncy\n"


def test_the_page_names_every_field_and_every_option_of_its_commands():
    for name in ("`model`", "`head`", "`frozen`", "`backbone_learning_rate`", "--initial", "--keep-head", "--head", "--classes"):
        assert name in PAGE
