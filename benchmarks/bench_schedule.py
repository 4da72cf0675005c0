"""How close to the ideal schedule: `facet run`, `dvc repro`, `dvc queue` and threads over `dvc repro -s`, alternating.

The graph sleeps: unpack 1 s, trainings 4 s each, their evaluations 2 s each, a table 1 s. With 8 trainings
and 4 slots no schedule ends before 14 s. Prefect's server is up before the clock starts, as it is for a
person who works.

    python benchmarks/bench_schedule.py            # the table of docs/decisions/0011: 18 stages, 3 rounds
    python benchmarks/bench_schedule.py --runs 74 --seconds 0.2 --rounds 1   # 150 stages
    python benchmarks/bench_schedule.py --stress   # 8 at a time, 10 fresh projects: nothing lost, nothing twice
    python benchmarks/bench_schedule.py --idle     # 150 stages, nothing to do; --idle --runs 265: 532 of them
    --quick: one round of short stages
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
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from pipeline.base import environment
from pipeline.servers import servers

REPEATED = """\
vars: [../../params.yaml]
stages:
  {kind}:
    foreach: ${{runs}}
    do:
      wdir: ../..
      cmd: sleep {seconds} && echo ${{key}} > {kind}/${{key}} && echo {kind}@${{key}} >> journal
      deps: [{dependency}]
      outs: ["{kind}/${{key}}"]
"""


def make_project(folder: Path, runs: int, scale: float = 1.0) -> None:
    """Write the graph into a new git and DVC repository; ``scale`` is of the seconds that stages sleep."""
    names = [f"r{i}" for i in range(runs)]
    params = {"runs": {name: {"n": i} for i, name in enumerate(names)}}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    (folder / "input").write_text("1\n")
    evaluated = [f"evaluate/{name}" for name in names]
    root = {
        name: {"cmd": f"sleep {scale} && echo > {out} && echo {name} >> journal", "deps": deps, "outs": [out]}
        for name, deps, out in (("unpack", ["input"], "unpacked"), ("tabulate", evaluated, "table"))
    }
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": root}))
    for kind, seconds, dependency in (("train", 4, "unpacked"), ("evaluate", 2, '"train/${key}"')):
        (folder / "graph" / kind).mkdir(parents=True)
        (folder / kind).mkdir()
        text = REPEATED.format(kind=kind, seconds=seconds * scale, dependency=dependency)
        (folder / "graph" / kind / "dvc.yaml").write_text(text)
    (folder / ".gitignore").write_text("/journal\n/.facet/\n")
    (folder / ".dvcignore").write_text(".facet\njournal\n")
    # an experiment of DVC's needs a commit to start from
    for command in ("git init -q", "dvc init -q", "dvc config core.analytics false", "git add -A", COMMIT):
        subprocess.run(command.split(), cwd=folder, check=True, env=environment.for_children())


COMMIT = "git -c user.name=bench -c user.email=bench@localhost commit -qm start"


def facet(folder: Path, runs: int, jobs: int) -> None:
    command = [sys.executable, "-m", "pipeline.cli", "run", "--no-track", "--jobs", str(jobs)]
    _run(folder, command)


def dvc_repro(folder: Path, runs: int, jobs: int) -> None:
    _run(folder, ["dvc", "repro", "--all-pipelines"])


def dvc_queue(folder: Path, runs: int, jobs: int) -> None:
    """An experiment for each run, as many workers as slots, and what is left of the graph; all restored at the end."""
    for i in range(runs):
        name = f"r{i}"
        _run(folder, ["dvc", "exp", "run", "--queue", "--name", name, f"graph/evaluate/dvc.yaml:evaluate@{name}"])
    _run(folder, ["dvc", "queue", "start", "-j", str(jobs)])
    until_s = time.monotonic() + 900
    while b"Queued" in (shown := _answer(folder, ["dvc", "queue", "status"])) or b"Running" in shown:
        if time.monotonic() > until_s:
            raise RuntimeError("dvc queue did not end within a quarter of an hour")
        time.sleep(0.5)
    # workers of a queue share the cache, not the workspace: one repro restores what they made
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


def _answer(folder: Path, command: list[str]) -> bytes:
    return subprocess.run(command, cwd=folder, env=environment.for_children(), check=True, capture_output=True).stdout


def ideal_s(runs: int, jobs: int, scale: float = 1.0) -> float:
    """Seconds that no schedule beats: all slots full between the first stage and the last."""
    return scale * (2 + max(6 * runs / jobs, 6))


def is_complete(folder: Path, runs: int) -> bool:
    """Whether every stage has its entry and DVC finds nothing to do."""
    entries = [yaml.safe_load(path.read_text())["stages"] for path in folder.rglob("dvc.lock")]
    clean = subprocess.run(["dvc", "status", "-q"], cwd=folder, env=environment.for_children(), check=False)
    return sum(map(len, entries)) == 2 * runs + 2 and clean.returncode == 0


CONTENDERS = {"facet": facet, "dvc_repro": dvc_repro, "dvc_queue": dvc_queue, "threads": threads}


def ran_twice(folder: Path) -> list[str]:
    """Return the stages that ran more than once."""
    ran = (folder / "journal").read_text().split()
    return sorted({stage for stage in ran if ran.count(stage) > 1})


def measure(name: str, runs: int, jobs: int, scale: float) -> tuple[float, float]:
    """Return wall and CPU seconds of one contender on a fresh project."""
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        make_project(folder, runs, scale)
        wall_s, cpu_s = _timed(lambda: CONTENDERS[name](folder, runs, jobs))
        if not is_complete(folder, runs):
            raise RuntimeError(f"{name} left the graph unfinished in {folder}")
        return wall_s, cpu_s
    finally:
        shutil.rmtree(folder)


def idle(runs: int) -> None:
    """Measure `facet run` and `dvc repro` with nothing to do, alternating."""
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        make_project(folder, runs, 0.0)
        facet(folder, runs, 4)
        times: dict[str, list[tuple[float, float]]] = {"facet": [], "dvc_repro": []}
        for _ in range(5):
            for name, rows in times.items():
                rows.append(_timed(lambda name=name: CONTENDERS[name](folder, runs, 4)))  # type: ignore[misc]
        report(f"nothing to do, {2 * runs + 2} stages (targets: 8 s wall, 6 s CPU)", times)
    finally:
        shutil.rmtree(folder)


def stress(rounds: int, runs: int) -> None:
    """Run fresh projects 8 at a time; every entry must be there, nothing may run twice, nothing may fail."""
    for i in range(rounds):
        folder = Path(tempfile.mkdtemp(prefix="bench-"))
        try:
            make_project(folder, runs, 0.1)
            wall_s, _ = _timed(lambda folder=folder: facet(folder, runs, 8))  # type: ignore[misc]
            twice = ran_twice(folder)
            if twice or not is_complete(folder, runs):
                raise RuntimeError(f"round {i}: ran twice: {twice}; see {folder}")
        finally:
            shutil.rmtree(folder)
        print(f"round {i + 1}: {2 * runs + 2} stages once each, all entries there, {wall_s:.1f} s", flush=True)


def _timed(body: Callable[[], None]) -> tuple[float, float]:
    before, start_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    body()
    wall_s, after = time.perf_counter() - start_s, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def report(title: str, times: dict[str, list[tuple[float, float]]]) -> None:
    """Print medians as a Markdown table, with the ratio to the first."""
    print(f"\n{title}; load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores\n")
    print("| | wall s | CPU s | wall, ratio | each |\n|:--|--:|--:|--:|:--|")
    base = statistics.median(wall_s for wall_s, _ in next(iter(times.values())))
    for name, rows in times.items():
        wall, cpu = (statistics.median(column) for column in zip(*rows, strict=True))
        each = ", ".join(f"{wall_s:.1f}" for wall_s, _ in rows)
        print(f"| {name} | {wall:.1f} | {cpu:.1f} | {wall / base:.2f} | {each} |")


def race(arguments: argparse.Namespace) -> None:
    """Let all contenders run the graph, alternating."""
    runs, jobs, scale = arguments.runs or 8, arguments.jobs, arguments.seconds
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in arguments.only}
    for _ in range(arguments.rounds):
        for name in arguments.only:
            wall_s, cpu_s = measure(name, runs, jobs, scale)
            times[name].append((wall_s, cpu_s))
            print(f"{name:10} {wall_s:6.1f} s wall, {cpu_s:5.1f} s CPU, load {os.getloadavg()[0]:.1f}", flush=True)
    report(f"{2 * runs + 2} stages, {jobs} slots, ideal {ideal_s(runs, jobs, scale):.0f} s", times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, help="8; 74 with --idle, 13 with --stress")
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="that `unpack` sleeps; trainings four times as long")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    for name in ("idle", "stress", "quick"):
        parser.add_argument(f"--{name}", action="store_true")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.seconds = 1, 0.25
    home = Path(tempfile.mkdtemp(prefix="bench-servers-"))
    try:
        os.environ["PREFECT_API_URL"] = servers.up(home, print)["prefect"].url + "/api"
        if arguments.idle:
            idle(arguments.runs or 74)
        elif arguments.stress:
            stress(2 if arguments.quick else 10, arguments.runs or 13)
        else:
            race(arguments)
    finally:
        servers.down(home)
        shutil.rmtree(home)


if __name__ == "__main__":
    main()
