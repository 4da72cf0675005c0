"""A training of a face model, not a dummy's, is killed in mid-run: it ends in the weights that it would have had."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests import support
from tests.faults import scene
from tests.faults.scene import Note
from tests.support import Project

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(600)]

STAGE = "train_backbone@arcface"
ADDRESS = f"graph/train_backbone/dvc.yaml:{STAGE}"
RESUMED = re.compile(r"resumed after step (\d+) of (\d+)")


def checkpoints(project: Project) -> list[Path]:
    """Return the checkpoints of trainings that have not ended, the last one last."""
    return sorted(project.path.glob(".facet/checkpoints/*/step-*[0-9]"))


def sha256(project: Project) -> str:
    return hashlib.sha256((project.path / "runs/arcface/backbone/weights.pt").read_bytes()).hexdigest()


def test_a_face_model_s_training_is_killed_and_ends_in_the_same_weights(tmp_path: Path, api_url: str, note: Note) -> None:
    project = support.make_project(tmp_path / "project")
    project.edit("profiles/tiny.yaml", {"defaults": {"schedule": {"epochs": 15, "milestones": [10]}}})
    project.run("dvc", "repro", "unpack")
    facet = (sys.executable, "-m", "pipeline.cli", "run", STAGE, "--jobs", "1", "--no-track")
    # after every step, so that the kill comes between two of them
    settings = {"PREFECT_API_URL": api_url, "FACET_CHECKPOINT_SECONDS": "0", "FACET_HOME": ".facet"}
    with (project.path / "facet.out").open("w") as out:
        run = subprocess.Popen(facet, cwd=project.path, env=project.environment | settings, stdout=out, stderr=out)
    try:
        until_s = time.monotonic() + 240
        while not any(int(path.name[-4:]) >= 12 for path in checkpoints(project)):
            assert run.poll() is None
            assert time.monotonic() < until_s, (project.path / "facet.out").read_text()
            time.sleep(0.02)
        (training,) = (
            each for each in psutil.Process(run.pid).children(recursive=True)
            if each.cmdline()[-3:] == ["-m", "stages.train_backbone", "arcface"]
        )  # fmt: skip
        os.kill(training.pid, signal.SIGKILL)
        assert run.wait(timeout=240) == 0, (project.path / "facet.out").read_text()
    finally:
        run.kill()
        run.wait()
    log = project.path / f".facet/logs/{STAGE}.log"
    resumed = RESUMED.search(log.read_text())
    assert resumed is not None
    step, steps = map(int, resumed.groups())
    assert step >= 12
    assert checkpoints(project) == []
    assert scene.processes_in(project.path) == []
    last = json.loads((project.path / ".facet/last_run.json").read_text())
    assert scene.ask(api_url, f"/flow_runs/{last['flow_run_id']}")["state"]["type"] == "COMPLETED"
    killed = sha256(project)
    assert "nothing to do" in project.run(*facet, **settings)
    project.run("dvc", "repro", "--single-item", "--force", ADDRESS)
    assert "resumed" not in log.read_text().partition(resumed[0])[2]
    assert sha256(project) == killed
    note(
        "SIGKILL of the training of a face model",
        f"it continues after step {step} of {steps}, from its checkpoint, and ends with exactly the weights of an undisturbed training run",
    )
