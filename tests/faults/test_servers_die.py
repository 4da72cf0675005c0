"""Prefect's and MLflow's servers are killed in the middle of a run."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import services
from pipeline.services import Service
from tests.faults import scene
from tests.faults.scene import Note
from tests.pipeline import dummy
from tests.pipeline.dummy import Dummy

pytestmark = [pytest.mark.slow, pytest.mark.faults]

Servers = tuple[Path, dict[str, Service]]


def bring_back(home: Path) -> None:
    said: list[str] = []
    services.up(home, said.append)


def kill(service: Service) -> None:
    for process in service.members():
        process.kill()


@pytest.fixture
def doomed(tmp_path: Path, mortal: Servers) -> Iterator[Dummy]:
    """A project on servers that a test may kill; they run when it begins."""
    home, _ = mortal
    bring_back(home)
    made = scene.make(tmp_path / "project", services.known(home)["prefect"].url + "/api")
    yield made
    for process in scene.processes_in(made.path):
        process.kill()


def test_prefects_server_dies_and_comes_back(doomed: Dummy, mortal: Servers, note: Note) -> None:
    home, _ = mortal
    assert doomed.api_url is not None
    found = scene.begin(doomed, doomed.api_url)
    (run,) = found.flow_run_ids()
    kill(services.known(home)["prefect"])
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
    note("SIGKILL of Prefect's server, which comes back", f"stages go on, the records catch up within {took_s:.0f} s; Completed")


def test_prefects_server_dies_and_stays_away(doomed: Dummy, mortal: Servers, note: Note) -> None:
    home, _ = mortal
    assert doomed.api_url is not None
    found = scene.begin(doomed, doomed.api_url)
    (run,) = found.flow_run_ids()
    kill(services.known(home)["prefect"])
    begun_s = time.monotonic()
    assert found.run.wait(timeout=150) == 0, doomed.output()
    took_s = time.monotonic() - begun_s
    assert doomed.counts("end")["tabulate@heads"] == 1
    scene.assert_no_orphan(doomed)
    bring_back(home)
    scene.assert_the_next_run_finishes(doomed)  # nothing is left, but for the server to be told
    scene.assert_ends_in(found, run, {"COMPLETED"}, within_s=5)
    note(
        "SIGKILL of Prefect's server, for good",
        f"all stages run to their end, the run leaves {took_s:.0f} s after the kill; the next `facet` command that finds a server tells it",
    )


def test_prefects_server_hangs_and_goes_on(doomed: Dummy, mortal: Servers, note: Note) -> None:
    home, _ = mortal
    assert doomed.api_url is not None
    found = scene.begin(doomed, doomed.api_url)
    (run,) = found.flow_run_ids()
    members = services.known(home)["prefect"].members()
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
    note("Prefect's server takes connections and says nothing", "all stages run to their end meanwhile; when it speaks again: Completed")


def recorded(root: Path) -> list[str]:
    with sqlite3.connect(f"file:{root}/tracking/mlflow.db?mode=ro", uri=True) as store:
        rows = store.execute("select name from runs where lifecycle_stage = 'active' and status = 'FINISHED'").fetchall()
    store.close()
    return sorted(name for (name,) in rows)


def test_mlflows_server_dies(mortal: Servers, note: Note, tmp_path: Path) -> None:
    from tests.pipeline.test_sweep import make

    home, _ = mortal
    bring_back(home)
    mlflow = services.known(home)["mlflow"]
    project = make(tmp_path / "project", services.known(home)["prefect"].url + "/api")
    sweep = ("run", "--set", "runs.r1.margin=0.3,0.5", "--jobs", "2")
    kill(mlflow)
    answer = project.facet(*sweep, MLFLOW_TRACKING_URI=mlflow.url)
    assert "MLflow did not take them" in answer.stdout + answer.stderr
    assert "| 0.5 | 1 |" in answer.stdout  # the table is there
    bring_back(home)
    again = project.facet(*sweep, MLFLOW_TRACKING_URI=services.known(home)["mlflow"].url)
    assert "nothing to do" in again.stdout
    assert recorded(home) == ["r1 margin=0.3", "r1 margin=0.5", "r1_margin_0p3", "r1_margin_0p5"]
    note("SIGKILL of MLflow's server", "results are whole; the run says that MLflow did not take them; the next records each once")
