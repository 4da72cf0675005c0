"""A project whose training runs keep checkpoints, and the checks that must hold after every fault."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.pipeline import dummy
from tests.pipeline.dummy import Dummy

STEPS = """\
if kind == "train_backbone":
    checkpoint = pathlib.Path(".facet/checkpoints", key)
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    first = int(checkpoint.read_text()) if checkpoint.exists() else 0
    note(f"from {first}")
    for step in range(first, params["steps"]):
        time.sleep(0.1)
        aside = checkpoint.with_suffix(".partial")
        aside.write_text(str(step + 1))
        aside.replace(checkpoint)
        if key in params["hangs"] and step == 5 and not pathlib.Path("hung-" + key).exists():
            pathlib.Path("hung-" + key).touch()
            time.sleep(1000)
        if step % 10 == 0:
            print(f"{name}  {100 * step // params['steps']}%", flush=True)
time.sleep(seconds)
"""
END = """\
if kind == "train_backbone":
    checkpoint.unlink()
note("end")
"""
WHOLE = """\
        aside = path.with_name(path.name + ".partial")
        aside.write_text(text + "x" * params["bytes"])
        aside.replace(path)
"""
STEPS_OF_ONE = 60


def make(path: Path, api_url: str | None) -> Dummy:
    """Make a project with two training runs of six seconds each."""
    project = dummy.make(path, runs=2, api_url=api_url)
    program = project.path / "work.py"
    text = program.read_text()
    for old, new in (
        ("time.sleep(seconds)\n", STEPS),
        ('note("end")\n', END),
        ("        path.write_text(text)\n", WHOLE),
    ):
        assert old in text
        text = text.replace(old, new)
    program.write_text(text)
    project.write_params(project.params() | {"steps": STEPS_OF_ONE, "bytes": 0, "hangs": []})
    (project.path / ".gitignore").write_text((project.path / ".gitignore").read_text() + "/hung-*\n")
    return project


def ask(api_url: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """Send a request to Prefect's server."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(api_url + path, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


@dataclass
class Scene:
    """A run in progress: both training runs are active and have a checkpoint."""

    project: Dummy
    api_url: str
    run: subprocess.Popen[str]
    since: float

    def training(self, key: str = "r0") -> int:
        """Return the pid of a training run's program."""
        return int(self.project.wait_for(f"train_backbone@{key}")["pid"])

    def process(self, words: str) -> psutil.Process:
        """Return the only process under the run whose command line contains ``words``."""
        found = [p for p in psutil.Process(self.run.pid).children(recursive=True) if words in " ".join(p.cmdline())]
        assert found, words
        return found[0]

    def flow_run(self) -> dict[str, Any]:
        """Return this project's newest flow run from the server."""
        body = {"sort": "START_TIME_DESC", "limit": 10}
        wanted = self.flow_run_ids()
        found = [one for one in ask(self.api_url, "/flow_runs/filter", body) if not wanted or one["id"] in wanted]
        assert isinstance(found[0], dict)
        return found[0]

    def flow_run_ids(self) -> set[str]:
        return {path.stem for path in (self.project.path / ".facet/flow-runs").glob("*.json")}


def begin(project: Dummy, api_url: str, *arguments: str, **extra: str) -> Scene:
    """Start `facet run` and wait until both training runs are active and have a checkpoint."""
    run = project.start("run", "--jobs", "2", "--no-track", *arguments, **extra)
    scene = Scene(project, api_url, run, time.time())
    try:
        for key in ("r0", "r1"):
            project.wait_for(f"train_backbone@{key}")
            dummy.wait_until(lambda key=key: steps_done(project, key) >= 8)
    except BaseException:
        project.stop(run)
        raise
    return scene


def steps_done(project: Dummy, key: str) -> int:
    """Return the step of a training run's last checkpoint."""
    try:
        return int((project.path / ".facet/checkpoints" / key).read_text() or 0)
    except FileNotFoundError:
        return 0


def processes_in(folder: Path) -> list[psutil.Process]:
    """Return the living processes whose working directory is in ``folder``."""
    found = []
    for process in psutil.process_iter():
        try:
            inside = Path(process.cwd()).is_relative_to(folder)
            if inside and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def assert_no_orphan(project: Dummy, within_s: float = 25) -> None:
    """Assert that no process of the project is left."""
    until_s = time.monotonic() + within_s
    while left := processes_in(project.path):
        assert time.monotonic() < until_s, [" ".join(process.cmdline()) for process in left]
        time.sleep(0.1)


def assert_nothing_is_half(project: Dummy) -> None:
    """Assert that all outputs are complete."""
    for path in [*project.path.glob("runs/*/backbone.txt"), *project.path.glob("results/*/hq.json")]:
        text = path.read_text()
        assert text.startswith('{"made": '), path
        assert len(text.split("\n", 1)[1]) == project.params()["bytes"], path


def assert_ends_in(scene: Scene, identity: str, types: set[str], within_s: float = 120, tasks_too: bool = True) -> float:
    """The server shows the run as ended in one of these ways, and no task as running; return after how many seconds.

    The tasks of a run that was killed, or whose server was, are shown as they were last heard of.
    """
    begun_s = time.monotonic()
    while True:
        state = ask(scene.api_url, f"/flow_runs/{identity}")["state"]
        body = {"flow_runs": {"id": {"any_": [identity]}}}
        tasks = {task["name"]: task["state_type"] for task in ask(scene.api_url, "/task_runs/filter", body)}
        if state["type"] in types and not (tasks_too and "RUNNING" in tasks.values()):
            return time.monotonic() - begun_s
        assert time.monotonic() - begun_s < within_s, (state, tasks)
        time.sleep(1)


def assert_the_next_run_finishes(project: Dummy, trained_again: bool = False, least: int = 8) -> None:
    """Assert that `facet run` resumes from checkpoints, and that every record exists once."""
    before = project.counts("end")
    project.facet("run", "--jobs", "2", "--no-track")
    after = project.counts("end")
    assert project.lock_entries() == {
        "resolve", "unpack", "tabulate@heads", *(f"{kind}@r{i}" for kind in ("train_backbone", "evaluate_hq") for i in (0, 1))
    }  # fmt: skip
    again = {name: after[name] for name in after if after[name] > 1 and before[name]}
    assert trained_again or not {name for name in again if name != "resolve"}, again
    for key in ("r0", "r1"):
        begun = [entry["what"] for entry in all_entries(project) if entry["stage"] == f"train_backbone@{key}"]
        firsts = [int(what.partition(" ")[2]) for what in begun if what.startswith("from")]
        assert firsts[0] == 0
        if len(firsts) > 1 and not trained_again:
            assert firsts[-1] >= least, firsts
    assert project.run("dvc", "status").stdout.strip() == "Data and pipelines are up to date."
    assert "nothing to do" in project.facet("run").stdout
    assert_nothing_is_half(project)


def all_entries(project: Dummy) -> list[dict[str, Any]]:
    """Return the whole journal."""
    return [json.loads(line) for line in (project.path / "journal.jsonl").read_text().splitlines()]


Note = Callable[[str, str], None]
