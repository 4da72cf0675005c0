"""Measures a work pool: trainings of a minute with an evaluation each, over clones that share nothing but remotes.

    PYTHONPATH=TREE python benchmarks/bench_pool.py --trainings 14 --seconds 60 --workers 3

Stages sleep, so that two cores serve several machines. TREE is the checkout to measure: for two of them run it by
turns. It prints the wall time of `facet run --pool`, and its ratio to the shortest possible.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import tempfile
import time
from pathlib import Path

from tests.machines.network import Network, end
from tests.machines.proof import prefect_server

POOL = "gpus"


def measure(folder: Path, api_url: str, trainings: int, seconds: float, evaluation: float, workers: int) -> float:
    """Return the wall time of one run from its start to its end, with workers that wait for it."""
    (folder / "store").mkdir()
    network = Network(folder, api_url, str(folder / "store"), (), {"PYTHONPATH": os.environ.get("PYTHONPATH", "")})
    network.found(trainings, {"train_backbone": seconds, "evaluate_hq": evaluation})
    coordinator = network.machine("coordinator")
    processes = [network.machine(f"worker{i}").start_worker(POOL) for i in range(workers)]
    try:
        began_s = time.monotonic()
        if coordinator.start("run", "--pool", POOL, "--no-track").wait():
            raise SystemExit(coordinator.output())
        return time.monotonic() - began_s
    finally:
        end(processes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainings", type=int, default=14)
    parser.add_argument("--seconds", type=float, default=60, help="that each training sleeps")
    parser.add_argument("--evaluation", type=float, default=5, help="seconds that each evaluation sleeps")
    parser.add_argument("--workers", type=int, default=3)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="facet-pool-"))
    try:
        with prefect_server(folder / "server") as api_url:
            wall_s = measure(folder, api_url, **vars(arguments))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    ideal_s = math.ceil(arguments.trainings / arguments.workers) * (arguments.seconds + arguments.evaluation)
    print(f"{wall_s:.0f} s wall, {wall_s / ideal_s:.2f} of the shortest possible {ideal_s:.0f} s")


if __name__ == "__main__":
    main()
