"""The stages as they are run: what they write, the same bytes each time, SIGKILL or not."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import yaml

from stages import train_backbone, train_quality
from stages.embedding.embedder import Embedder
from stages.runtime import artifacts, program
from tests.stages import training_data
from tests.stages.small_training import config
from tests.support import ROOT

pytestmark = pytest.mark.slow

SPEED = {"images_per_s", "data_wait", "peak_memory_gib"}


def write_project(root: Path, **schedule: Any) -> None:
    training_data.write(root)
    sections = {
        "train": config(**schedule).model_dump(mode="json"),
        "quality": {"name": "cr_fiqa", "target": "paper", "views": 2},
    }
    artifacts.write_yaml(root / "resolved/runs/run.yaml", sections)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stages.runtime.artifacts.STATE", tmp_path / ".facet")
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose run `run` has been trained, by the programs themselves."""
    root = tmp_path_factory.mktemp("trained")
    write_project(root)
    for stage in ("train_backbone", "train_quality"):
        assert start(root, stage).wait(timeout=120) == 0
    return root


def start(root: Path, stage: str = "train_backbone", **more: str) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
        "FACET_DEVICE": "cpu", "FACET_HOME": str(root / ".facet"), **more,
    }  # fmt: skip
    command = [sys.executable, "-m", f"stages.{stage}", "run"]
    with (root / "log.txt").open("ab") as log:
        return subprocess.Popen(command, cwd=root, env=environment, stderr=log)


def digests(root: Path) -> dict[str, str]:
    # of this run alone: other tests train others in the same project
    files = [path for folder in ("runs/run", "results/run") for path in (root / folder).rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): hashlib.sha256(without_speed(path)).hexdigest() for path in files}


def without_speed(path: Path) -> bytes:
    """Return a file's bytes, but for how fast it was trained, when and with how much memory: no two are alike in that."""
    if path.name not in ("train.json", "measurements.jsonl"):
        return path.read_bytes()
    trees = [json.loads(path.read_text())] if path.suffix == ".json" else list(map(json.loads, path.read_text().splitlines()))
    for tree in trees:
        assert tree.keys() >= SPEED or "step" not in tree, tree.keys()
    return json.dumps([{name: value for name, value in tree.items() if name not in SPEED | {"time"}} for tree in trees]).encode()


def test_it_writes_model_metrics_and_curve(trained: Path):
    folder = trained / "runs/run/backbone"
    assert {path.name for path in folder.iterdir()} == {"weights.pt", "model.json", "program.pt2", "environment.json"}
    said = artifacts.read_json(folder / "environment.json")
    assert (said["torch"], said["precision"], said["processes"]) == (str(torch.__version__), "float32", 1)
    model = artifacts.read_json(folder / "model.json")
    assert (model["color_order"], model["value_range"], model["image_size"]) == ("BGR", [-1.0, 1.0], 112)
    assert (model["feature_dim"], model["num_classes"], model["dataset"]) == (16, 4, "tiny")
    assert model["head"]["t_alpha"] == 0.01  # defaults are written out
    metrics = artifacts.read_json(trained / "results/run/train.json")
    assert metrics["weights_sha256"] == model["weights_sha256"] == artifacts.sha256(folder / "weights.pt")
    assert metrics["epochs"] == 3
    assert metrics["images_per_s"] > 0
    assert 0 < metrics["data_wait"] < 1
    assert 0.05 < metrics["peak_memory_gib"] < 50
    assert metrics["peak_device_memory_gib"] is None
    told, *points = map(json.loads, (trained / "results/run/train/measurements.jsonl").read_text().splitlines())
    assert (told["run"], told["num_steps"]) == ("run", points[-1]["step"])
    assert {"loss", "learning_rate", "accuracy", "target_cosine", "norm_mean", "images_per_s", "data_wait"} <= points[-1].keys()
    assert points[-1]["steps_left"] == 0
    lines = (trained / "results/run/train.csv").read_text().splitlines()
    assert lines[0].startswith("epoch,loss,accuracy,target_cosine,learning_rate")
    assert [line.split(",")[0] for line in lines[1:]] == ["1", "2", "3"]


def test_nothing_is_left_of_a_training_that_succeeded(trained: Path):
    assert not list((trained / ".facet").rglob("*.pt"))


def test_weights_load_without_running_what_they_name(trained: Path):
    tree = torch.load(trained / "runs/run/backbone/weights.pt", weights_only=True)
    assert tree["head"]["weight"].shape == (4, 16)
    assert all(value.is_contiguous() for part in tree.values() for value in part.values())


def test_the_program_runs_without_this_repository(trained: Path, tmp_path: Path):
    torch.manual_seed(0)
    image_N3HW = torch.randint(0, 256, (5, 3, 112, 112), dtype=torch.uint8)
    torch.save(image_N3HW, tmp_path / "images.pt")
    code = (
        "import sys, torch\n"
        f"program = torch.export.load({str(trained / 'runs/run/backbone/program.pt2')!r}).module()\n"
        "torch.save(program(torch.load('images.pt')), 'out.pt')\n"
        "assert not [name for name in sys.modules if name.split('.')[0] == 'stages']\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=120)
    embedding_ND, norm_N = torch.load(tmp_path / "out.pt")
    embedder = Embedder.load(trained / "runs/run/backbone", torch.device("cpu"))
    features = embedder(image_N3HW.permute(0, 2, 3, 1).numpy())
    feature_ND = torch.from_numpy(features.feature_ND)
    torch.testing.assert_close(embedding_ND * norm_N[:, None], feature_ND, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(embedding_ND.norm(dim=1), torch.ones(5))


def test_two_trainings_write_the_same_bytes_though_one_was_killed_and_given_other_threads(trained: Path, tmp_path: Path):
    # the same training, slowed down so that it can be hit between two checkpoints
    write_project(tmp_path)
    slow = tmp_path / "sitecustomize.py"
    slow.write_text("import time\nimport torch\nold = torch.optim.SGD.step\n"
                    "def step(*a, **k):\n    time.sleep(0.15)\n    return old(*a, **k)\n"
                    "torch.optim.SGD.step = step\n")  # fmt: skip
    process = start_slow(tmp_path)
    checkpoint = wait_for(lambda: next((tmp_path / ".facet").rglob("checkpoint.json"), None))
    assert checkpoint is not None
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=60) == -signal.SIGKILL
    assert not (tmp_path / "runs").exists()
    for stage in ("train_backbone", "train_quality"):
        assert start(tmp_path, stage).wait(timeout=120) == 0
    assert "resumed after step" in (tmp_path / "log.txt").read_text()
    assert digests(tmp_path) == digests(trained)


def start_slow(root: Path) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ, "PYTHONPATH": f"{root}:{ROOT}", "OMP_NUM_THREADS": "2",
        "FACET_DEVICE": "cpu", "FACET_HOME": str(root / ".facet"),
    }  # fmt: skip
    return subprocess.Popen([sys.executable, "-m", "stages.train_backbone", "run"], cwd=root, env=environment)


def wait_for(found: Any, seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = found()
        if value:
            return value
        time.sleep(0.02)
    return None


def test_sigterm_ends_it_with_143_and_keeps_the_checkpoint(project: Path):
    write_project(project, epochs=500)
    process = start(project)
    assert wait_for(lambda: list((project / ".facet").rglob("checkpoint.json")))
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    assert list((project / ".facet").rglob("checkpoint.json"))
    assert not (project / "runs").exists()


def test_facet_procs_starts_processes_that_die_with_the_program_that_started_them(project: Path):
    write_project(project, epochs=60)
    process = start(project, FACET_PROCS="2", FACET_CHECKPOINT_SECONDS="0")
    assert wait_for(lambda: list((project / ".facet").rglob("rank-00001-of-00002.pt")))
    children = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    process.kill()
    assert process.wait(timeout=60) == -signal.SIGKILL
    assert wait_for(lambda: not any(map(alive, children)), seconds=40), "processes went on without their program"


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_a_run_that_is_not_there_is_one_sentence(project: Path, capsys: pytest.CaptureFixture[str]):
    assert program.run(train_backbone.main, train_backbone.parser(), ["nobody"]) == 2
    assert capsys.readouterr().err.startswith("error: resolved/runs/nobody.yaml is missing")


def test_quality_needs_a_trained_backbone(project: Path, capsys: pytest.CaptureFixture[str]):
    assert program.run(train_quality.main, train_quality.parser(), ["run"]) == 2
    assert "the stage train_backbone writes it" in capsys.readouterr().err


def test_quality_writes_its_method_and_metrics(trained: Path):
    tree = artifacts.read_json(trained / "runs/run/quality/quality.json")
    assert (tree["name"], tree["target"]) == ("cr_fiqa", "paper")
    assert tree["weights_sha256"] == artifacts.sha256(trained / "runs/run/quality/weights.pt")
    metrics = artifacts.read_json(trained / "results/run/quality.json")
    assert metrics["images"] == 2 * training_data.IDENTITIES * training_data.IMAGES
    assert metrics["explained_variance"] > 0


def test_a_method_without_training_writes_its_name_alone(trained: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(trained)
    sections = yaml.safe_load((trained / "resolved/runs/run.yaml").read_text())
    artifacts.write_yaml(
        trained / "resolved/runs/plain.yaml", sections | {"quality": {"name": "feature_norm"}}
    )
    (trained / "runs/plain").mkdir(exist_ok=True)
    (trained / "runs/plain/backbone").symlink_to(trained / "runs/run/backbone")
    assert program.run(train_quality.main, train_quality.parser(), ["plain"]) == 0
    assert [path.name for path in (trained / "runs/plain/quality").iterdir()] == ["quality.json"]
