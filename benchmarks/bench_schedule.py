"""How close to the ideal schedule: `facet run`, `dvc repro`, and threads over `dvc repro -s`, alternating.

The graph sleeps: unpack 1 s, trainings 4 s each, their evaluations 2 s each, a table 1 s. With 8 trainings
and 4 slots no schedule ends before 14 s. Prefect's server is up before the clock starts, as it is for a
person who works.

    python benchmarks/bench_schedule.py --rounds 3
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from pipeline import environment, services

REPEATED = """\
vars: [../../params.yaml]
stages:
  {kind}:
    foreach: ${{runs}}
    do:
      wdir: ../..
      cmd: sleep {seconds} && echo ${{key}} > {kind}/${{key}}
      deps: [{dependency}]
      outs: ["{kind}/${{key}}"]
"""


def make_project(folder: Path, runs: int) -> None:
    """Write the graph into a new git and DVC repository."""
    names = [f"r{i}" for i in range(runs)]
    params = {"runs": {name: {"n": i} for i, name in enumerate(names)}}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    (folder / "input").write_text("1\n")
    evaluated = [f"evaluate/{name}" for name in names]
    root = {
        "unpack": {"cmd": "sleep 1 && echo > unpacked", "deps": ["input"], "outs": ["unpacked"]},
        "tabulate": {"cmd": "sleep 1 && echo > table", "deps": evaluated, "outs": ["table"]},
    }
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": root}))
    for kind, seconds, dependency in (("train", 4, "unpacked"), ("evaluate", 2, '"train/${key}"')):
        (folder / "graph" / kind).mkdir(parents=True)
        (folder / kind).mkdir()
        text = REPEATED.format(kind=kind, seconds=seconds, dependency=dependency)
        (folder / "graph" / kind / "dvc.yaml").write_text(text)
    for command in ("git init -q", "dvc init -q", "dvc config core.analytics false"):
        subprocess.run(command.split(), cwd=folder, check=True, env=environment.for_children())


def facet(folder: Path, runs: int, jobs: int) -> None:
    command = [sys.executable, "-m", "pipeline.cli", "run", "--no-track", "--jobs", str(jobs)]
    _run(folder, command)


def dvc_repro(folder: Path, runs: int, jobs: int) -> None:
    _run(folder, ["dvc", "repro", "--all-pipelines"])


def threads(folder: Path, runs: int, jobs: int) -> None:
    """The twenty lines that anybody would write first."""
    slots = threading.Semaphore(jobs)

    def reproduce(address: str) -> None:
        with slots:
            _run(folder, ["dvc", "--wait-for-lock", "repro", "--single-item", address])

    def one_run(name: str) -> None:
        reproduce(f"graph/train/dvc.yaml:train@{name}")
        reproduce(f"graph/evaluate/dvc.yaml:evaluate@{name}")

    reproduce("unpack")
    with ThreadPoolExecutor(runs) as pool:
        list(pool.map(one_run, [f"r{i}" for i in range(runs)]))
    reproduce("tabulate")


def _run(folder: Path, command: list[str]) -> None:
    env = environment.for_children()
    subprocess.run(command, cwd=folder, env=env, check=True, capture_output=True)


def ideal_s(runs: int, jobs: int) -> float:
    """Seconds of the best schedule: trainings first, then evaluations, in full waves."""
    return 1 + 4 * -(-runs // jobs) + 2 * -(-runs // jobs) + 1


def is_complete(folder: Path, runs: int) -> bool:
    """Whether every stage has its entry and DVC finds nothing to do."""
    entries = [yaml.safe_load(path.read_text())["stages"] for path in folder.rglob("dvc.lock")]
    clean = subprocess.run(["dvc", "status", "-q"], cwd=folder, env=environment.for_children(), check=False)
    return sum(map(len, entries)) == 2 * runs + 2 and clean.returncode == 0


CONTENDERS = {"facet": facet, "threads": threads, "dvc_repro": dvc_repro}


def measure(name: str, runs: int, jobs: int) -> tuple[float, float]:
    """Return wall and CPU seconds of one contender on a fresh project."""
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        make_project(folder, runs)
        before, start_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        CONTENDERS[name](folder, runs, jobs)
        wall_s, after = time.perf_counter() - start_s, resource.getrusage(resource.RUSAGE_CHILDREN)
        if not is_complete(folder, runs):
            raise RuntimeError(f"{name} left the graph unfinished in {folder}")
        return wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    finally:
        shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    arguments = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="bench-servers-"))
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in arguments.only}
    try:
        os.environ["PREFECT_API_URL"] = services.up(home, print)["prefect"].url + "/api"
        for _ in range(arguments.rounds):
            for name in arguments.only:
                wall_s, cpu_s = measure(name, arguments.runs, arguments.jobs)
                times[name].append((wall_s, cpu_s))
                print(f"{name:10} {wall_s:6.1f} s wall, {cpu_s:5.1f} s CPU, load {os.getloadavg()[0]:.1f}")
    finally:
        services.down(home)
        shutil.rmtree(home)
    ideal = ideal_s(arguments.runs, arguments.jobs)
    print(f"\nideal {ideal:.0f} s on {arguments.jobs} slots, {os.cpu_count()} cores")
    for name, measured in times.items():
        wall, cpu = (statistics.median(column) for column in zip(*measured, strict=True))
        print(f"{name:10} median {wall:6.1f} s wall, {cpu:6.1f} s CPU")


if __name__ == "__main__":
    main()
