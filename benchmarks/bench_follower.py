"""What showing a training in MLflow costs its steps: nobody follows, MLflow answers, is dead, stopped, its disk full.

    OMP_NUM_THREADS=1 python benchmarks/bench_follower.py [--rounds 5] [--epochs 240]

A small training runs as the stage program that `dvc repro` starts, once per side and round; sides take turns, and the
round begins with another side each time, so that a busy machine slows all alike. Stopped is SIGSTOP; the disk is full
by a limit on the size of the server's files. Compared are milliseconds a step, from what the training itself records in
train.json, by the median over rounds of the ratio to the side without a follower.

Ends with 1 where one side is more than 5 % slower, a followed training is not in MLflow, or a process is left.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import psutil

from pipeline.base import environment
from pipeline.servers import follower
from pipeline.tracking import sync
from stages.runtime import artifacts
from tests.faults.scene import processes_in
from tests.pipeline.mlflow_server import MlflowServer
from tests.stages import training_data
from tests.stages.small_training import config

ROOT = Path(__file__).resolve().parents[1]
OFF, ALIVE, DEAD, STOPPED, FULL = SIDES = (
    "nobody follows", "MLflow answers", "MLflow is dead", "MLflow is stopped", "MLflow's disk is full",
)  # fmt: skip
LIMIT = 1.05
BATCH = 8


def make_project(folder: Path, epochs: int) -> None:
    """Write a project with one run, `run`, and its training set."""
    training_data.write(folder)
    made = config(epochs=epochs, batch_size=BATCH, milestones=[epochs - 1]).model_dump(mode="json")
    artifacts.write_yaml(folder / "resolved/runs/run.yaml", {"train": made})
    (folder / ".dvc").mkdir()
    (folder / "dvc.yaml").write_text("stages: {}\n")


def train(folder: Path, url: str, follow: bool) -> float:
    """Train from the beginning and return the milliseconds of a step."""
    settings = environment.for_children() | {
        "PYTHONPATH": str(ROOT), "FACET_DEVICE": "cpu", "FACET_FOLLOW": str(int(follow)), "MLFLOW_TRACKING_URI": url,
        "FACET_HOME": ".facet",
    }  # fmt: skip
    settings.pop("FACET_LOG_FILE", None)
    command = [sys.executable, "-m", "stages.train_backbone", "run"]
    subprocess.run(command, cwd=folder, env=settings, stderr=subprocess.DEVNULL, check=True)
    metrics: dict[str, Any] = json.loads((folder / "results/run/train.json").read_text())
    return 1000 * BATCH / float(metrics["images_per_s"])


@contextlib.contextmanager
def side(server: MlflowServer, name: str) -> Iterator[None]:
    """Have the server as a side wants it."""
    if name in (ALIVE, STOPPED, FULL) and server.process is None:
        server.start()
    if name == DEAD:
        server.kill()
    if name == STOPPED:
        server.send(signal.SIGSTOP)
    if name == FULL:
        server.fill_disk(True)
    try:
        yield
    finally:
        if name == STOPPED:
            server.send(signal.SIGCONT)
        if name == FULL:
            server.fill_disk(False)


def round_of(order: Sequence[str], server: MlflowServer, make: Callable[[str], Path]) -> dict[str, float]:
    """Return the milliseconds of a step for each side, in this order."""
    found = {}
    for name in order:
        folder = make(name)
        with side(server, name):
            found[name] = train(folder, server.url, follow=name != OFF)
            if name == ALIVE:
                time.sleep(15.0)  # it imports MLflow first, and a fast machine has trained by then
            follower.end(folder)
    return found


def shown(url: str) -> int:
    """Return how many training runs the server has."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(url)
    return len(client.search_runs([one.experiment_id for one in client.search_experiments()]))


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--epochs", type=int, default=240, help="of the training; enough for half a minute")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as text:
        base = Path(text)
        folder = base / "mlflow"
        server = MlflowServer(folder, sync.initialise_store(folder))
        rounds: list[dict[str, float]] = []

        def make(name: str) -> Path:
            folder = base / f"{len(rounds)}-{SIDES.index(name)}"
            folder.mkdir()
            make_project(folder, asked.epochs)
            return folder

        try:
            server.start()
            for number in range(asked.rounds):
                turn = number % len(SIDES)
                rounds.append(round_of(SIDES[turn:] + SIDES[:turn], server, make))
                print("  ".join(f"{name}: {rounds[-1][name]:.2f} ms" for name in SIDES), flush=True)
            if server.process is None:
                server.start()
            runs = shown(server.url)
        finally:
            server.kill()
        psutil.wait_procs(processes_in(base), timeout=30)  # one that was told to end may be sending its last points
        left = processes_in(base)
    worst = 0.0
    print(f"\n| | ms a step | ratio | rounds: {asked.rounds}, {psutil.cpu_count()} cores |\n|---|---|---|---|")
    for name in SIDES:
        ratio = statistics.median(one[name] / one[OFF] for one in rounds)
        worst = max(worst, ratio)
        each = [one[name] for one in rounds]
        print(f"| {name} | {statistics.median(each):.2f} | {ratio:.3f} | {min(each):.2f} to {max(each):.2f} |")
    print(f"\n{runs} of {asked.rounds} followed trainings are in MLflow; followers left: {len(left)}")
    return int(worst > LIMIT or runs < asked.rounds or bool(left))


if __name__ == "__main__":
    sys.exit(main())
