"""A training run by the stage itself, whole, and stopped by SIGTERM and run again: the weights are equal."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.gpu import data
from benchmarks.gpu.bench import Bench, Item
from benchmarks.gpu.results import Row
from stages.core.errors import OperationError
from stages.runtime import artifacts

ROOT = Path(__file__).resolve().parents[2]
WHOLE, STOPPED = "whole", "stopped"
PATIENCE_S = 120.0
RESUMED = re.compile(r"resumed after step (\d+) of \d+")


def items(bench: Bench) -> Iterator[Item]:
    """Yield the comparison."""
    yield Item("training, stopped by SIGTERM and resumed", lambda: compare(bench))


def compare(bench: Bench) -> Row:
    """Train twice with deterministic kernels, once stopped on the way, and compare the weights."""
    folder = bench.folder / "project"
    data.write(folder, bench.sizes.images)
    config = bench.config(bench.sizes.net, 2, schedule=bench.sizes.stopped, compute={"deterministic": True})
    section = config.model_dump(mode="json") | {"dataset": data.NAME}
    for run in (WHOLE, STOPPED):
        artifacts.write_yaml(folder / "resolved/runs" / f"{run}.yaml", {"train": section})
    finish(start(folder, WHOLE), 0)
    if not stop(folder):
        return Row("it was done before it could be stopped", verdict="not known")
    resumed = RESUMED.search(finish(start(folder, STOPPED), 0))
    if resumed is None:
        return Row("it was run again from its first step", "it resumes", "WRONG")
    metrics = {run: artifacts.read_json(folder / "results" / run / "train.json") for run in (WHOLE, STOPPED)}
    same = metrics[WHOLE]["weights_sha256"] == metrics[STOPPED]["weights_sha256"]
    difference, loss = 0.0 if same else distance(folder), metrics[WHOLE]["loss"]
    return Row(
        f"{resumed[0]}, loss {loss:.3f}; " + ("weights equal" if same else f"weights {difference:.1e} apart"),
        "equal weights, bit for bit", "ok" if same else "WRONG",
        numbers={"resumed_after": int(resumed[1]), "loss": loss, "difference": difference},
    )  # fmt: skip


def start(folder: Path, run: str, **more: str) -> subprocess.Popen[str]:
    """Start the stage in the project's folder."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FACET_HOME": str(folder / ".facet"), **more}
    command = [sys.executable, "-m", "stages.train_backbone", run]
    return subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str], code: int) -> str:
    """Wait for a stage and return what it printed.

    Raises:
        OperationError: it ends with another code, or not in time.
    """
    try:
        said = process.communicate(timeout=PATIENCE_S)[1]
    except subprocess.TimeoutExpired as error:
        process.kill()
        raise OperationError(f"the training was not done after {PATIENCE_S:.0f} s") from error
    if process.returncode != code:
        last = (said.strip().splitlines() or ["it printed nothing"])[-1]
        raise OperationError(f"the training should end with code {code}, got {process.returncode}: {last}")
    return said


def stop(folder: Path) -> bool:
    """Start the run, and stop it after its first measurement; return whether there was something left to stop."""
    log = folder / "measurements.jsonl"
    process = start(folder, STOPPED, FACET_LOG_FILE=str(log))
    begin = time.monotonic()
    while not log.is_file():
        if process.poll() is not None or time.monotonic() - begin > PATIENCE_S:
            process.kill()
            finish(process, 0)
            return False
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.wait(PATIENCE_S)
    if process.returncode:
        finish(process, 143)
    return process.returncode != 0


def distance(folder: Path) -> float:
    """Return the largest difference of a weight."""
    trees = [
        torch.load(folder / "runs" / run / "backbone/weights.pt", weights_only=True)["backbone"]
        for run in (WHOLE, STOPPED)
    ]
    return max(float((trees[0][name] - trees[1][name]).abs().max()) for name in trees[0])
