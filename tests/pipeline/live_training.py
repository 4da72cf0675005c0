"""A process that measures as a training does, on request; its project; what MLflow has of it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from pipeline.tracking import lineage
from pipeline.tracking.desired import TRAININGS
from pipeline.tracking.experiments import KEY
from pipeline.tracking.following import Follower
from pipeline.tracking.live_runs import PREFIX
from tests.support import ROOT

STEPS = 100
PROGRAM = f"""
import signal, sys
from pathlib import Path
from stages.runtime import measurements, program

def stop(number, frame):
    raise program.Terminated

signal.signal(signal.SIGTERM, stop)
run, key = sys.argv[1:]
path = Path(".facet/live") / f"{{run}}.{{key}}.jsonl"
about = dict(stage=f"train_backbone@{{run}}", run=run, key=key, num_steps={STEPS})
with measurements.recorded(path, **about) as written:
    print("ready", flush=True)
    for line in iter(sys.stdin.readline, ""):
        word, *numbers = line.split()
        if word == "fail":
            raise ValueError("the loss is nan at step 7")
        if word == "finish":
            written.write(Path("results", run, "train", "measurements.jsonl"))
            break
        for step in range(int(numbers[0]), int(numbers[1]) + 1):
            written.log_point(step, loss=10.0 / step, learning_rate=0.1, steps_left={STEPS}.0 - step)
        print("done", flush=True)
"""


class Training:
    """One process that trains; the next with the same key resumes it."""

    def __init__(self, root: Path, run: str = "arcface", key: str = "k1") -> None:
        self.root, self.run = root, run
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, run, key], cwd=root, env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert self._answer() == "ready"

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def _ask(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def steps(self, first: int, last: int) -> None:
        self._ask(f"steps {first} {last}")
        assert self._answer() == "done"

    def finish(self) -> None:
        self._ask("finish")
        assert self._end() == 0

    def fail(self) -> None:
        self._ask("fail")
        assert self._end() == 1

    def end(self, number: signal.Signals) -> None:
        self.process.send_signal(number)
        self._end()

    def _end(self) -> int:
        code = self.process.wait(timeout=30)
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()
        return code


def make(root: Path, empty_store: Path, margin: float = 0.5) -> Path:
    """Fill a folder with a project that has an empty MLflow and one resolved run."""
    shutil.copytree(empty_store, root / "tracking", dirs_exist_ok=True)
    facts = {**json.loads((root / "tracking/store.json").read_text()), "folder": str(root / "tracking")}
    (root / "tracking/store.json").write_text(json.dumps(facts))
    (root / ".dvc").mkdir(exist_ok=True)
    (root / "dvc.yaml").write_text("stages: {}\n")
    resolved = root / "resolved/runs/arcface.yaml"
    resolved.parent.mkdir(parents=True, exist_ok=True)
    resolved.write_text(yaml.safe_dump({"train": section(margin)}))
    return root


def section(margin: float) -> dict[str, Any]:
    return {"dataset": "demo", "head": {"name": "arcface", "margin": margin}, "seed": 0}


def lock(root: Path, run: str = "arcface") -> str:
    """Write a lock file as DVC does when the training has ended; return its fingerprint."""
    folder = Path("results", run, "train")
    entry: dict[str, Any] = {
        "cmd": f"python -m stages.train_backbone {run}",
        "params": {f"resolved/runs/{run}.yaml": {"train": section(0.5)}},
        "outs": [{"path": folder.as_posix(), "md5": lineage.folder_md5(root / folder)}],
    }
    (root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {f"train_backbone@{run}": entry}}))
    return lineage.fingerprint(lineage.read(root).entries[f"train_backbone@{run}"])


def runs(uri: str) -> list[Run]:
    """Return the runs of trainings that a store has, the oldest first."""
    client = MlflowClient(uri)
    found = [one.experiment_id for one in client.search_experiments() if one.tags.get(KEY) == TRAININGS]
    return list(reversed(client.search_runs(found))) if found else []


def curve(uri: str, run: Run, name: str = "loss") -> list[int]:
    """Return the steps of a measured name, in the order of steps, as often as they are there."""
    return sorted(one.step for one in MlflowClient(uri).get_metric_history(run.info.run_id, PREFIX + name))


def until_shown(follower: Follower, uri: str, last: int) -> None:
    """Tick until a store has the curve up to a step."""
    until_s = time.monotonic() + 90
    while time.monotonic() < until_s:
        at_once(follower)
        with contextlib.suppress(Exception):
            (run,) = runs(uri)
            if curve(uri, run)[-1:] == [last]:
                return
        time.sleep(0.2)
    raise TimeoutError(f"step {last} is not in MLflow")


def until_over(follower: Follower) -> None:
    """Tick until nothing more is expected of any training."""
    until_s = time.monotonic() + 60
    while follower.followed and time.monotonic() < until_s:
        at_once(follower)
        time.sleep(0.1)
    assert follower.followed == {}


def at_once(follower: Follower) -> None:
    """Tick without the pause after an error."""
    follower._again_s = 0.0
    follower.tick()
