"""A real DVC project of the same shape as ours; its stages sleep, write, record their runs, and fail on request."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline.base import environment

PROGRAM = """\
import json, os, pathlib, signal, sys, time
import yaml
from stages.runtime import program
kind, key, *outs = sys.argv[1:]
name = f"{kind}@{key}" if key != "-" else kind
program.die_with_parent()

def note(what):
    told = {"cuda": "CUDA_VISIBLE_DEVICES", "device": "FACET_SLOT", "threads": "OMP_NUM_THREADS",
            "log": "FACET_LOG_FILE"}
    line = json.dumps({"stage": name, "what": what, "pid": os.getpid(), "time": time.time()}
                      | {key: os.environ.get(name) for key, name in told.items()})
    descriptor = os.open(os.environ.get("DUMMY_JOURNAL", "journal.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(descriptor, (line + "\\n").encode())
    os.close(descriptor)

def stop(number, frame):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(params["seconds"].get("stop", 0))
    note("stopped")
    print("stopped by SIGTERM", file=sys.stderr, flush=True)
    os._exit(143)

params = yaml.safe_load(open("params.yaml"))
signal.signal(signal.SIGTERM, stop)
note("start")
seconds = params["seconds"].get(kind, 0)
print(f"{name} begins", flush=True)
if pathlib.Path("ignore-sigterm", name).exists():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(seconds)
if pathlib.Path("fail", name).exists():
    print(f"error: {name} was told to fail", file=sys.stderr, flush=True)
    sys.exit(2)
if kind == "resolve":
    for run, section in params["runs"].items():
        path = pathlib.Path("resolved/runs", f"{run}.yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump({"train": section}))
for out in outs:
    path = pathlib.Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"made": name}) + "\\n"
    if path.suffix:
        path.write_text(text)
    else:
        path.mkdir(exist_ok=True)
        (path / "table.md").write_text(f"| {key} |\\n")
print(f"{name} ends", flush=True)
note("end")
"""

ROOT_GRAPH = """\
stages:
  resolve:
    cmd: python work.py resolve -
    deps: [params.yaml]
    outs: [resolved]
  unpack:
    cmd: python work.py unpack - data/unpacked.txt
    params:
      - params.yaml: [data]
    outs: [data/unpacked.txt]
    meta: {device: cpu}
  tabulate:
    foreach: ${tables}
    do:
      cmd: python work.py tabulate ${key} results/tables/${key}/report
      deps: ["${item.deps}"]
      outs:
        - results/tables/${key}/report:
            cache: false
"""

TRAIN_GRAPH = """\
vars:
  - ../../params.yaml
stages:
  train_backbone:
    foreach: ${runs}
    do:
      wdir: ../..
      cmd: python work.py train_backbone ${key} runs/${key}/backbone.txt
      params:
        - resolved/runs/${key}.yaml: [train]
      deps: [data/unpacked.txt]
      outs: ["runs/${key}/backbone.txt"]
"""

EVALUATE_GRAPH = """\
vars:
  - ../../params.yaml
stages:
  evaluate_hq:
    foreach: ${runs}
    do:
      wdir: ../..
      cmd: python work.py evaluate_hq ${key} results/${key}/hq.json
      deps: ["runs/${key}/backbone.txt"]
      metrics:
        - results/${key}/hq.json:
            cache: false
"""


@dataclass
class Dummy:
    """A project in ``path``."""

    path: Path
    api_url: str | None = None

    def write_params(self, tree: dict[str, Any]) -> None:
        (self.path / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))

    def params(self) -> dict[str, Any]:
        tree = yaml.safe_load((self.path / "params.yaml").read_text())
        assert isinstance(tree, dict)
        return tree

    def environment(self, **extra: str) -> dict[str, str]:
        base = {
            name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "FACET_"))
        }
        base |= {"FACET_LEASES": str(self.path / "machine"), "FACET_FOLLOW": "0"}
        if self.api_url:
            base["PREFECT_API_URL"] = self.api_url
        # not the terminal's width: lines of a log must not be wrapped
        return environment.for_children(base) | {"PREFECT_LOGGING_COLORS": "false", "COLUMNS": "200"} | extra

    def run(self, *command: str, code: int | None = 0, **extra: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the project and check its exit code."""
        answer = subprocess.run(
            command,
            cwd=self.path,
            env=self.environment(**extra),
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert code is None or answer.returncode == code, (
            f"{command}: {answer.returncode}\n{answer.stdout}\n{answer.stderr}"
        )
        return answer

    def facet(self, *arguments: str, code: int | None = 0, **extra: str) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "pipeline.cli", *arguments, code=code, **extra)

    def start(self, *arguments: str, **extra: str) -> subprocess.Popen[str]:
        """Start `facet` in its own process group, as a shell does."""
        return self.start_program(sys.executable, "-m", "pipeline.cli", *arguments, **extra)

    def start_program(self, *command: str, **extra: str) -> subprocess.Popen[str]:
        with (self.path / "facet.out").open("w") as out:
            return subprocess.Popen(
                command,
                cwd=self.path,
                env=self.environment(**extra),
                stdout=out,
                stderr=out,
                text=True,
                start_new_session=True,
            )

    def stop(self, process: subprocess.Popen[str]) -> None:
        """End a program that a test started, with its process group."""
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def output(self) -> str:
        return (self.path / "facet.out").read_text()

    def journal(self, what: str = "start") -> list[dict[str, Any]]:
        path = self.path / "journal.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [entry for entry in map(json.loads, lines) if entry["what"] == what]

    def counts(self, what: str = "start") -> Counter[str]:
        """Return how often each stage recorded ``what``."""
        return Counter(entry["stage"] for entry in self.journal(what))

    def forget_journal(self) -> None:
        (self.path / "journal.jsonl").unlink(missing_ok=True)

    def lock_entries(self) -> set[str]:
        """Return the stages in any dvc.lock of the project."""
        files = [self.path / "dvc.lock", *self.path.glob("graph/*/dvc.lock")]
        return {
            name for file in files if file.exists() for name in yaml.safe_load(file.read_text())["stages"]
        }

    def edit(self, run: str, **changes: Any) -> None:
        """Change parameters of one run."""
        tree = self.params()
        tree["runs"][run] |= changes
        self.write_params(tree)

    def slow_down(self, **seconds: float) -> None:
        """Set how long stages of a kind sleep; only `resolve` depends on it."""
        self.write_params(self.params() | {"seconds": seconds})

    def last_run(self) -> dict[str, Any]:
        tree = json.loads((self.path / ".facet/last_run.json").read_text())
        assert isinstance(tree, dict)
        return tree

    def tell_to(self, what: str, stage: str) -> None:
        (self.path / what).mkdir(exist_ok=True)
        (self.path / what / stage).touch()

    def wait_for(self, stage: str, what: str = "start", timeout_s: float = 60) -> dict[str, Any]:
        """Wait until a stage has recorded ``what``."""
        until_s = time.monotonic() + timeout_s
        while time.monotonic() < until_s:
            if found := [entry for entry in self.journal(what) if entry["stage"] == stage]:
                return found[-1]
            time.sleep(0.05)
        raise AssertionError(f"{stage} did not {what}: {self.journal(what)}\n{self.output()}")


def make(path: Path, runs: int, seconds: dict[str, float] | None = None, api_url: str | None = None) -> Dummy:
    """Make a project with ``runs`` training runs, their evaluations and one table of them, committed to git."""
    path.mkdir(parents=True, exist_ok=True)
    names = [f"r{i}" for i in range(runs)]
    project = Dummy(path, api_url)
    project.write_params(
        {
            "data": 1,
            "seconds": seconds or {},
            "runs": {name: {"margin": 0.1 * i} for i, name in enumerate(names)},
            "tables": {"heads": {"first": 1}},
        }
    )
    listed = ", ".join(f"results/{name}/hq.json" for name in names)
    (path / "dvc.yaml").write_text(ROOT_GRAPH.replace('"${item.deps}"', listed))
    for folder, text in (("train_backbone", TRAIN_GRAPH), ("evaluate_hq", EVALUATE_GRAPH)):
        (path / "graph" / folder).mkdir(parents=True)
        (path / "graph" / folder / "dvc.yaml").write_text(text)
    (path / "work.py").write_text(PROGRAM)
    (path / ".gitignore").write_text(
        "/data/\n/runs/\n/resolved/\n/.facet/\n/journal.jsonl\n/machine/\n/facet.out\n"
    )
    (path / ".dvcignore").write_text(".facet\nmachine\n")
    project.run("git", "init", "-q")
    # what `dvc init` makes, without the second that it takes
    (path / ".dvc").mkdir()
    (path / ".dvc/config").write_text("[core]\n    analytics = false\n")
    (path / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    return project


def alive(pid: int) -> bool:
    """Return whether a process runs and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until_dead(pid: int, timeout_s: float = 10) -> None:
    until_s = time.monotonic() + timeout_s
    while alive(pid):
        assert time.monotonic() < until_s, f"process {pid} still runs"
        time.sleep(0.05)


def wait_until(look: Callable[[], bool], timeout_s: float = 150) -> None:
    """Wait until a condition holds."""
    until_s = time.monotonic() + timeout_s
    while not look():
        assert time.monotonic() < until_s, "it did not come to be"
        time.sleep(0.05)
