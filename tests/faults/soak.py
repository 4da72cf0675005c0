"""Soak: one run after another of a small project, while its processes are killed, stopped or starved and parameters change.

    python -m tests.faults.soak --minutes 60 --seed 7 --out .facet/soak

Real DVC, Prefect and MLflow. After each disturbed run the invariants of docs/faults.md are checked; then an undisturbed run
must finish the work, with the results that the parameters call for. At the end a fresh project that nobody disturbed must
have the same results, and Prefect must show no run as running. Curves of memory, descriptors, processes and databases go
into soak.csv and soak.png.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

from pipeline.servers import servers
from tests.faults import scene
from tests.pipeline.dummy import Dummy

LONGEST_S = 240.0  # a disturbed run must end by then
ENDED, FORKS = {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}, "pipeline.execution.fork_server"
WORDS = {"program": "work.py", "DVC": FORKS, "fork server": FORKS}
SPIN = "while True: pass"
MADE = 'text = json.dumps({"made": name}) + "\\n"\n'
OF = """\
of = None
    if kind == "train_backbone":
        of = yaml.safe_load(open(f"resolved/runs/{key}.yaml"))["train"]
    elif kind == "evaluate_hq":
        of = json.loads(open(f"runs/{key}/backbone.txt").readline())["of"]
    text = json.dumps({"made": name, "of": of}) + "\\n"
"""


@dataclass
class Soak:
    """The project, its servers, and what was found."""

    folder: Path
    random: random.Random
    rows: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    exit_codes: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.home = self.folder / "servers"
        self.home.mkdir()
        self.bring_back({servers.PREFECT: 0, servers.MLFLOW: 0})
        self.project = make(self.folder / "project", self.api_url)

    @property
    def api_url(self) -> str:
        return servers.recorded(self.home)[servers.PREFECT].url + "/api"

    def bring_back(self, ports: dict[str, int] = servers.PORTS) -> None:
        servers.up(self.home, lambda line: None, ports=ports)

    def round(self, number: int) -> None:
        """Disturb a run, check, let an undisturbed one finish, check."""
        began_s = time.monotonic()
        self.project.forget_journal()
        self.edit()
        run = self.project.start("run", "--jobs", str(self.random.choice((1, 2, 3))), "--no-track")
        self.wait_a_while(run)
        said = self.disturb(run)
        code = self.wait(run, said)
        self.exit_codes[str(code)] += 1
        self.check(said, scene.assert_no_orphan, self.project)
        self.check(said, scene.assert_nothing_is_half, self.project)
        self.bring_back()
        self.check(said, self.finish)
        self.rows.append({"round": number, "s": round(time.monotonic() - began_s, 1), "fault": said, "exit": code, **self.measure()})

    def wait_a_while(self, run: subprocess.Popen[str]) -> None:
        """Wait until some stage of the run has begun, or less, and then for some seconds."""
        until_s = time.monotonic() + self.random.choice((5, 90, 90, 90))
        while run.poll() is None and not self.project.counts() and time.monotonic() < until_s:
            time.sleep(0.1)
        time.sleep(self.random.uniform(0.0, 9.0))

    def edit(self) -> None:
        """Change nothing, a run or both."""
        for run in self.random.choice(((), ("r0",), ("r1",), ("r0", "r1"))):
            self.project.edit(run, margin=self.random.randrange(1000) / 1000)

    def wait(self, run: subprocess.Popen[str], said: str) -> int | None:
        try:
            return run.wait(timeout=LONGEST_S)
        except subprocess.TimeoutExpired:
            self.problem(f"{said}: the run did not end in {LONGEST_S:g} s\n{self.project.output()[-2000:]}")
            for process in scene.processes_in(self.project.path):
                process.kill()
            return run.wait()

    def check(self, said: str, look: Callable[..., Any], *arguments: Any) -> None:
        try:
            look(*arguments)
        except Exception as error:
            self.problem(f"{said}: {type(error).__name__}: {str(error)[:3000]}")

    def problem(self, text: str) -> None:
        self.problems.append(text)
        print(f"PROBLEM after round {len(self.rows)}: {text}", flush=True)

    def finish(self) -> None:
        """An undisturbed run ends well, all is up to date, and every result is the one that the parameters call for."""
        self.project.facet("run", "--jobs", "2", "--no-track")
        scene.assert_nothing_is_half(self.project)
        for run, section in self.project.params()["runs"].items():
            for kind, path in (("train_backbone", f"runs/{run}/backbone.txt"), ("evaluate_hq", f"results/{run}/hq.json")):
                made = json.loads((self.project.path / path).read_text())
                assert made == {"made": f"{kind}@{run}", "of": section}, (path, made, section)
        assert self.project.run("dvc", "status").stdout.strip() == "Data and pipelines are up to date."
        assert "nothing to do" in self.project.facet("run").stdout

    def disturb(self, run: subprocess.Popen[str]) -> str:
        """Do something to a run; return what it was."""
        ways = {"kill": self.kill, "stop": self.stop, "starve": self.starve, "signal": self.send, "edit": self.change, "nothing": lambda run: "nothing"}
        said = self.random.choices(list(ways.values()), (9, 7, 1, 3, 1, 1))[0](run)
        self.faults[said] += 1
        return said

    def victims(self, run: subprocess.Popen[str], what: str) -> list[psutil.Process]:
        if what in (servers.PREFECT, servers.MLFLOW):
            return list(servers.known(self.home)[what].members())
        if what == "facet run":
            return [psutil.Process(run.pid)] if run.poll() is None else []
        with contextlib.suppress(psutil.Error):
            found = [one for one in psutil.Process(run.pid).children(recursive=True) if WORDS[what] in " ".join(one.cmdline())]
            # of the fork server's name are its children too, which run DVC
            found = found[:1] if what == "fork server" else found[what == "DVC" :]
            return [self.random.choice(found)] if found else []
        return []

    def choose(self, run: subprocess.Popen[str]) -> tuple[str, list[psutil.Process]]:
        names = ["program", "DVC", "fork server", "facet run", servers.PREFECT, servers.MLFLOW]
        self.random.shuffle(names)  # the first that is there
        return next(((what, found) for what in names if (found := self.victims(run, what))), (names[0], []))

    def kill(self, run: subprocess.Popen[str]) -> str:
        what, processes = self.choose(run)
        with contextlib.suppress(psutil.Error):
            for process in processes:
                process.kill()
        if processes and what in (servers.PREFECT, servers.MLFLOW):
            psutil.wait_procs(processes, timeout=10)
            if self.random.random() < 0.7:
                time.sleep(self.random.uniform(0, 5))
                self.bring_back()
                return f"kill {what}, which comes back"
        return f"kill {what}" if processes else "nothing"

    def stop(self, run: subprocess.Popen[str]) -> str:
        what, processes = self.choose(run)
        with contextlib.suppress(psutil.Error):
            for process in processes:
                process.suspend()
        time.sleep(self.random.choice((0.5, 3, 20)))
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.resume()
        return f"stop {what} for a while" if processes else "nothing"

    def starve(self, run: subprocess.Popen[str]) -> str:
        """Give all processes of the run one core, which another program wants too."""
        core = [self.random.choice(sorted(os.sched_getaffinity(0)))]
        with subprocess.Popen([sys.executable, "-c", SPIN]) as spinning:
            for process in [*scene.processes_in(self.project.path), psutil.Process(spinning.pid)]:
                with contextlib.suppress(psutil.Error):
                    process.cpu_affinity(core)
                    process.nice(19 if process.pid != spinning.pid else psutil.Process().nice())
            time.sleep(8)
            spinning.kill()
        return "starve all"

    def send(self, run: subprocess.Popen[str]) -> str:
        number, group = self.random.choice(((signal.SIGINT, True), (signal.SIGTERM, False), (signal.SIGTERM, True), (signal.SIGKILL, True)))
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(run.pid, number)
        return f"{number.name} of the {'group' if group else 'run'}"

    def change(self, run: subprocess.Popen[str]) -> str:
        self.project.edit("r1", margin=self.random.randrange(1000) / 1000)
        return "edit of params.yaml"

    def measure(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, service in servers.known(self.home).items():
            members = service.members()
            found[f"{name} MiB"] = round(sum(one.memory_info().rss for one in members) / 2**20, 1)
            found[f"{name} descriptors"] = sum(one.num_fds() for one in members)
            found[f"{name} processes"] = len(members)
        found["databases MiB"] = round(sum(path.stat().st_size for path in self.home.rglob("*.db*")) / 2**20, 2)
        state = [path for path in (self.project.path / ".facet").rglob("*") if path.is_file()]
        found["files in .facet"] = len(state)
        found[".facet MiB"] = round(sum(path.stat().st_size for path in state) / 2**20, 2)
        found["partial files"] = sum(1 for _ in partial(self.project.path))
        return found

    def last(self) -> None:
        """A project that nobody disturbed has the same results, and no run is shown as running."""
        fresh = make(self.folder / "fresh", self.api_url)
        fresh.write_params(self.project.params())
        fresh.run("dvc", "repro")
        assert outputs(fresh) == outputs(self.project)
        until_s = time.monotonic() + 150
        while left := [one["name"] for one in scene.ask(self.api_url, "/flow_runs/filter", {"limit": 200}) if one["state_type"] not in ENDED]:
            assert time.monotonic() < until_s, f"shown as running: {left}"
            time.sleep(2)
        assert not (left := list(partial(self.project.path))), f"left over: {left}"


def partial(path: Path) -> Iterator[Path]:
    """Yield temporary files that nothing has removed."""
    return (one for one in path.rglob("*.partial*") if ".dvc" not in one.parts)


def make(path: Path, api_url: str) -> Dummy:
    """Make a project whose results depend on its parameters."""
    project = scene.make(path, api_url)
    text = (program := project.path / "work.py").read_text()
    assert MADE in text
    program.write_text(text.replace(MADE, OF))
    return project


def outputs(project: Dummy) -> dict[str, Any]:
    """Return the outputs of every stage, with their digests."""
    locks = [project.path / "dvc.lock", *project.path.glob("graph/*/dvc.lock")]
    stages = {name: entry for path in locks for name, entry in yaml.safe_load(path.read_text())["stages"].items()}
    return {name: entry.get("outs") for name, entry in stages.items()}


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw each measured value over the rounds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    names = [name for name in rows[-1] if name not in ("round", "fault", "exit")]
    figure, axes = plt.subplots(len(names), 1, figsize=(9, 1.6 * len(names)), sharex=True, layout="constrained")
    for axis, name in zip(axes, names, strict=True):
        axis.plot([row["round"] for row in rows], [row.get(name) or 0 for row in rows], marker=".", linewidth=0.8)
        axis.set_ylabel(name, fontsize=7)
        axis.set_ylim(bottom=0)
    axes[-1].set_xlabel("round")
    figure.savefig(path, dpi=90)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--minutes", type=float, default=60)
    options.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3)))
    options.add_argument("--out", type=Path, default=Path(".facet/soak"))
    arguments = options.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        soak = Soak(Path(name), random.Random(arguments.seed))
        until_s = time.monotonic() + 60 * arguments.minutes
        try:
            while not soak.rows or time.monotonic() < until_s:
                soak.round(len(soak.rows))
                row = soak.rows[-1]
                print(f"{row['round']:4} {row['s']:6.1f} s  exit {row['exit']!s:4}  {row['fault']}", flush=True)
                with (arguments.out / "soak.csv").open("w", newline="") as stream:
                    writer = csv.DictWriter(stream, list(dict.fromkeys(key for one in soak.rows for key in one)))
                    writer.writeheader()
                    writer.writerows(soak.rows)
            soak.check("at the end", soak.last)
        finally:
            for process in scene.processes_in(soak.project.path):
                process.kill()
            servers.down(soak.home)
    draw(soak.rows, arguments.out / "soak.png")
    print(f"{len(soak.rows)} rounds; faults: {dict(soak.faults)}; exit codes: {dict(soak.exit_codes)}; {len(soak.problems)} problems")
    return 1 if soak.problems else 0


if __name__ == "__main__":
    sys.exit(main())
