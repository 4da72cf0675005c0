"""Runs that are stopped, cancelled or killed."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipeline import dummy
from tests.pipeline.asking import ask, task_runs
from tests.pipeline.dummy import Dummy, wait_until_dead

pytestmark = pytest.mark.slow


@pytest.fixture
def project(tmp_path: Path, api_url: str) -> Dummy:
    """A small project."""
    return dummy.make(tmp_path / "project", runs=2, api_url=api_url)


@pytest.fixture
def sleeping(project: Dummy) -> Iterator[tuple[Dummy, subprocess.Popen[str], list[int]]]:
    """A run whose two trainings sleep, and their pids."""
    project.slow_down(train_backbone=120)
    process = project.start("run", "--jobs", "2", "--no-track")
    try:
        yield project, process, [project.wait_for(f"train_backbone@r{i}")["pid"] for i in range(2)]
    finally:
        project.stop(process)


def assert_goes_on(project: Dummy) -> None:
    """Assert that the next run finishes the work."""
    project.slow_down()
    project.facet("run", "--no-track")
    assert project.counts("end") == {
        "resolve": 2,  # its parameters said how long to sleep
        "unpack": 1,
        **dict.fromkeys(["train_backbone@r0", "train_backbone@r1", "evaluate_hq@r0", "evaluate_hq@r1"], 1),
        "tabulate@heads": 1,
    }


@pytest.mark.parametrize(
    ("number", "code", "why"),
    [(signal.SIGINT, 130, "stopped by Ctrl-C"), (signal.SIGTERM, 130, "stopped by SIGTERM")],
)
def test_a_signal_ends_all_stages_and_shows_as_cancelled(
    sleeping: tuple[Dummy, subprocess.Popen[str], list[int]], api_url: str, number: int, code: int, why: str
) -> None:
    project, process, pids = sleeping
    # Ctrl-C reaches the whole group of a terminal, `kill` one process
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    assert process.wait(timeout=60) == code, project.output()
    for pid in pids:
        wait_until_dead(pid)
    assert project.counts("stopped") == {"train_backbone@r0": 1, "train_backbone@r1": 1}
    state = ask(api_url, f"/flow_runs/{project.last_run()['flow_run_id']}")["state"]
    assert state["type"] == "CANCELLED"
    assert state["message"].startswith(why)


def test_a_cancel_in_the_ui_ends_all_stages(
    sleeping: tuple[Dummy, subprocess.Popen[str], list[int]], api_url: str
) -> None:
    project, process, pids = sleeping
    wanted = {"flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}}}
    (running,) = ask(api_url, "/flow_runs/filter", wanted)
    ask(api_url, f"/flow_runs/{running['id']}/set_state", {"state": {"type": "CANCELLING"}})
    assert process.wait(timeout=60) == 130, project.output()
    for pid in pids:
        wait_until_dead(pid)
    state = ask(api_url, f"/flow_runs/{running['id']}")["state"]
    assert state["type"] == "CANCELLED"
    assert state["message"].startswith("cancelled: finished work is kept")
    runs = task_runs(api_url, running["id"])
    assert runs["tabulate@heads"]["state_name"] == "Skipped"
    assert runs["train_backbone@r0"]["state_type"] == "CANCELLED"


@pytest.mark.parametrize("group", [False, True])
def test_a_killed_run_leaves_no_orphan_and_the_next_one_shows_it_as_crashed_and_goes_on(
    sleeping: tuple[Dummy, subprocess.Popen[str], list[int]], api_url: str, group: bool
) -> None:
    project, process, pids = sleeping
    (record,) = (project.path / ".facet/flow-runs").glob("*.json")
    if group:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    for pid in pids:
        wait_until_dead(pid)
    if not group:
        assert project.counts("stopped") == {"train_backbone@r0": 1, "train_backbone@r1": 1}
    # nobody has waited for the process yet: it is dead all the same
    assert_goes_on(project)
    state = ask(api_url, f"/flow_runs/{record.stem}")["state"]
    assert state["type"] == "CRASHED"
    assert state["message"].startswith("its process was killed")
    assert not record.exists()
