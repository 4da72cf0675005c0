"""Prefect's and MLflow's servers are killed in the middle of a run."""

from __future__ import annotations

import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.servers import servers
from pipeline.servers.servers import Service
from tests.faults import scene
from tests.faults.scene import Note
from tests.pipeline import dummy
from tests.pipeline.dummy import Dummy

pytestmark = [pytest.mark.slow, pytest.mark.faults]

Servers = tuple[Path, dict[str, Service]]


def bring_back(home: Path) -> None:
    said: list[str] = []
    servers.up(home, said.append)


def kill(service: Service) -> None:
    members = service.members()
    for process in members:
        process.kill()
    # until then its port is taken, and the next one would get another
    psutil.wait_procs(members, timeout=10)


@pytest.fixture
def doomed(tmp_path: Path, mortal: Servers) -> Iterator[Dummy]:
    """A project on servers that a test may kill; they run when it begins."""
    home, _ = mortal
    bring_back(home)
    made = scene.make(tmp_path / "project", servers.known(home)["prefect"].url + "/api")
    yield made
    for process in scene.processes_in(made.path):
        process.kill()


def test_prefects_server_dies_and_comes_back(doomed: Dummy, mortal: Servers, note: Note) -> None:
    home, _ = mortal
    assert doomed.api_url is not None
    found = scene.begin(doomed, doomed.api_url)
    (run,) = found.flow_run_ids()
    kill(servers.known(home)["prefect"])
    before = scene.steps_done(doomed, "r0")
    time.sleep(1.5)
    assert scene.steps_done(doomed, "r0") > before  # nobody minds
    bring_back(home)
    assert found.run.wait(timeout=120) == 0, doomed.output()
    scene.assert_no_orphan(doomed)
    took_s = scene.assert_ends_in(found, run, {"COMPLETED"})
    tasks = scene.ask(found.api_url, "/task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
    states = {task["name"]: task["state_type"] for task in tasks}
    assert len(tasks) == len(states) == 7
    assert set(states.values()) == {"COMPLETED"}
    scene.assert_the_next_run_finishes(doomed)
    note("SIGKILL of Prefect's server, which comes back", f"stages continue, the server has all records within {took_s:.0f} s; Completed")


def test_prefects_server_dies_and_stays_away(doomed: Dummy, mortal: Servers, note: Note) -> None:
    home, _ = mortal
    assert doomed.api_url is not None
    found = scene.begin(doomed, doomed.api_url)
    (run,) = found.flow_run_ids()
    kill(servers.known(home)["prefect"])
    begun_s = time.monotonic()
    assert found.run.wait(timeout=150) == 0, doomed.output()
    took_s = time.monotonic() - begun_s
    assert doomed.counts("end")["tabulate@heads"] == 1
    scene.assert_no_orphan(doomed)
    bring_back(home)
    scene.assert_the_next_run_finishes(doomed)  # nothing is left, but for the server to be told
    scene.assert_ends_in(found, run, {"COMPLETED"}, within_s=5, tasks_too=False)
    note(
        "SIGKILL of Prefect's server, which stays away",
        f"all stages run to their end; the run exits {took_s:.0f} s after the kill; the next `facet` command that finds a server reports the run's end",
    )


def test_prefects_server_hangs_and_goes_on(doomed: Dummy, mortal: Servers, note: Note) -> None:
    home, _ = mortal
    assert doomed.api_url is not None
    found = scene.begin(doomed, doomed.api_url)
    (run,) = found.flow_run_ids()
    members = servers.known(home)["prefect"].members()
    for process in members:
        process.suspend()
    try:
        dummy.wait_until(lambda: doomed.counts("end")["tabulate@heads"] == 1, timeout_s=90)  # nobody minds
    finally:
        for process in members:
            process.resume()
    assert found.run.wait(timeout=150) == 0, doomed.output()
    scene.assert_no_orphan(doomed)
    scene.assert_ends_in(found, run, {"COMPLETED"})
    scene.assert_the_next_run_finishes(doomed)
    note("Prefect's server accepts connections and does not answer for a while", "all stages run to their end meanwhile; once it answers again: Completed")


def recorded(root: Path) -> list[str]:
    with sqlite3.connect(f"file:{root}/tracking/mlflow.db?mode=ro", uri=True) as store:
        rows = store.execute("select name from runs where lifecycle_stage = 'active' and status = 'FINISHED'").fetchall()
    store.close()
    return sorted(name for (name,) in rows)


def sweep(margins: str) -> list[str]:
    """Return the arguments of a sweep; each test has its own margins, for MLflow takes the same results once."""
    return ["run", "--set", f"runs.r1.margin={margins}", "--jobs", "2"]


def swept(margins: str) -> list[str]:
    """Return the names that MLflow shows of it."""
    names = [(f"r1 margin={margin}", f"r1_margin_{margin.replace('.', 'p')}") for margin in margins.split(",")]
    return [*(name for pair in names for name in pair), f"r1: margin = {margins.replace(',', ', ')}"]


@pytest.fixture
def held(tmp_path: Path, mortal: Servers) -> Iterator[Dummy]:
    """A project to sweep whose trainings last as long as the file `hold` beside it is there; servers run."""
    from tests.pipeline.sweep_project import make

    home, _ = mortal
    bring_back(home)
    (tmp_path / "hold").touch()
    project = make(tmp_path / "project", servers.known(home)["prefect"].url + "/api")
    program = project.path / "work.py"
    hold = f'while kind == "train_backbone" and pathlib.Path("{tmp_path}/hold").exists():\n    time.sleep(0.1)\n'
    text = program.read_text()
    assert "time.sleep(seconds)\n" in text
    program.write_text(text.replace("time.sleep(seconds)\n", hold))
    yield project
    for process in scene.processes_in(project.path):
        process.kill()


def begin_sweep(project: Dummy, margins: str, mlflow_url: str) -> subprocess.Popen[str]:
    """Start a sweep and wait until both its trainings run."""
    run = project.start(*sweep(margins), MLFLOW_TRACKING_URI=mlflow_url)
    try:
        dummy.wait_until(lambda: trainings(project, "start") == 2)
    except BaseException:
        project.stop(run)
        raise
    return run


def trainings(project: Dummy, what: str) -> int:
    """Return how many trainings of the sweep have begun or ended."""
    found = [Dummy(path.parent).counts(what) for path in project.path.glob(".facet/sweeps/*/journal.jsonl")]
    return sum(count for each in found for name, count in each.items() if name.startswith("train_backbone"))


def let_go(project: Dummy, run: subprocess.Popen[str]) -> str:
    """Let the trainings, which still run, come to their end and return what the run said."""
    assert run.poll() is None
    assert trainings(project, "end") == 0
    (project.path.parent / "hold").unlink()
    assert run.wait(timeout=150) == 0, project.output()
    assert trainings(project, "end") == trainings(project, "start") == 2
    scene.assert_no_orphan(project)
    return project.output()


def test_mlflows_server_dies_and_stays_away(held: Dummy, mortal: Servers, note: Note) -> None:
    (home, _), margins = mortal, "0.3,0.5"
    mlflow = servers.known(home)["mlflow"]
    before = recorded(home)
    run = begin_sweep(held, margins, mlflow.url)
    kill(mlflow)
    said = let_go(held, run)
    assert "MLflow refused them" in said
    assert "| **r1 margin=0.5** | measured |" in said  # the table is there
    assert recorded(home) == before
    bring_back(home)
    again = held.facet(*sweep(margins), MLFLOW_TRACKING_URI=servers.known(home)["mlflow"].url)
    assert "nothing to do" in again.stdout
    assert recorded(home) == sorted(before + swept(margins))
    note("SIGKILL of MLflow's server", "results are complete; the run prints that MLflow refused them; the next run records each once")


def test_mlflows_server_dies_and_comes_back(held: Dummy, mortal: Servers, note: Note) -> None:
    (home, _), margins = mortal, "0.4,0.6"
    mlflow = servers.known(home)["mlflow"]
    before = recorded(home)
    run = begin_sweep(held, margins, mlflow.url)
    kill(mlflow)
    bring_back(home)
    assert servers.known(home)["mlflow"].url == mlflow.url
    said = let_go(held, run)
    assert "MLflow refused them" not in said
    assert recorded(home) == sorted(before + swept(margins))
    again = held.facet(*sweep(margins), MLFLOW_TRACKING_URI=mlflow.url)
    assert "nothing to do" in again.stdout
    assert recorded(home) == sorted(before + swept(margins))
    note("SIGKILL of MLflow's server, which comes back", "stages continue; at the end the run records each result once")
