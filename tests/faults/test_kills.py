"""Processes of a run are killed one by one; so are runs, by signal and from Prefect."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest

from tests.faults import scene
from tests.faults.scene import Note, Scene
from tests.pipeline.dummy import Dummy

pytestmark = [pytest.mark.slow, pytest.mark.faults]


def identity(found: Scene) -> str:
    (one,) = found.flow_run_ids()
    return one


def test_the_program_of_a_training_is_killed(project: Dummy, api_url: str, note: Note) -> None:
    found = scene.begin(project, api_url)
    run = identity(found)
    os.kill(found.training(), signal.SIGKILL)
    assert found.run.wait(timeout=90) == 0, project.output()
    scene.assert_no_orphan(project)
    scene.assert_ends_in(found, run, {"COMPLETED"})
    assert "trying again, 1 of 2" in project.output()
    scene.assert_the_next_run_finishes(project)
    note("SIGKILL of a training stage", "the same run tries it again after 5 s, from its checkpoint; Completed")


def test_the_process_that_runs_dvc_is_killed(project: Dummy, api_url: str, note: Note) -> None:
    found = scene.begin(project, api_url)
    run = identity(found)
    training = psutil.Process(found.training())
    dvc = next(one for one in training.parents() if "pipeline.execution.fork_server" in " ".join(one.cmdline()))
    dvc.kill()
    assert found.run.wait(timeout=90) == 0, project.output()
    scene.assert_no_orphan(project)
    scene.assert_ends_in(found, run, {"COMPLETED"})
    scene.assert_the_next_run_finishes(project)
    note("SIGKILL of the process that runs DVC", "its training stage gets SIGTERM; the same run tries again; Completed")


def test_the_forking_process_is_killed(project: Dummy, api_url: str, note: Note) -> None:
    found = scene.begin(project, api_url)
    run = identity(found)
    found.process("pipeline.execution.fork_server").kill()
    assert found.run.wait(timeout=90) == 1, project.output()
    scene.assert_no_orphan(project)
    scene.assert_ends_in(found, run, {"FAILED"})
    scene.assert_the_next_run_finishes(project)
    note("SIGKILL of the fork server", "all stages end with SIGTERM; Failed, with the reason")


def test_the_run_is_killed(project: Dummy, api_url: str, note: Note) -> None:
    found = scene.begin(project, api_url)
    run = identity(found)
    found.run.kill()
    found.run.wait()
    took_s = scene.assert_ends_in(found, run, {"CRASHED"}, within_s=125, tasks_too=False)
    scene.assert_no_orphan(project)
    scene.assert_the_next_run_finishes(project)
    note("SIGKILL of `facet run`", f"all stages end with SIGTERM; Crashed after {took_s:.0f} s by missing heartbeats")


def test_the_run_is_killed_and_the_next_comes_before_anybody_noticed(project: Dummy, api_url: str, note: Note) -> None:
    found = scene.begin(project, api_url)
    run = identity(found)
    found.run.kill()
    found.run.wait()
    scene.assert_the_next_run_finishes(project)
    scene.assert_ends_in(found, run, {"CRASHED"}, within_s=5, tasks_too=False)
    note("SIGKILL of `facet run`, the next at once", "it waits until the stages have ended, continues, and reports the first run as Crashed")


def test_the_whole_process_group_is_killed(project: Dummy, api_url: str, note: Note) -> None:
    found = scene.begin(project, api_url)
    run = identity(found)
    os.killpg(found.run.pid, signal.SIGKILL)
    found.run.wait()
    scene.assert_no_orphan(project)
    # nobody is left to tell the server; its automation has to notice that the heartbeats stopped
    took_s = scene.assert_ends_in(found, run, {"CRASHED"}, within_s=125, tasks_too=False)
    scene.assert_the_next_run_finishes(project)
    scene.assert_ends_in(found, run, {"CRASHED"}, within_s=5, tasks_too=False)
    said = f"Crashed after {took_s:.0f} s by missing heartbeats; the next `facet run` continues from the checkpoints"
    note("SIGKILL of the whole process group, or a machine that dies", said)


@pytest.mark.parametrize(
    ("number", "group", "fault"),
    [(signal.SIGINT, True, "Ctrl-C"), (signal.SIGTERM, False, "SIGTERM of `facet run`"),
     (signal.SIGTERM, True, "SIGTERM of the process group (a Prefect worker that cancels)")],
)  # fmt: skip
def test_a_run_is_stopped_by_a_signal(
    project: Dummy, api_url: str, note: Note, number: int, group: bool, fault: str
) -> None:
    found = scene.begin(project, api_url)
    run = identity(found)
    (os.killpg if group else os.kill)(found.run.pid, number)
    assert found.run.wait(timeout=60) == 130, project.output()
    scene.assert_no_orphan(project)
    scene.assert_ends_in(found, run, {"CANCELLED"}, within_s=20)
    scene.assert_the_next_run_finishes(project)
    note(fault, "stages get SIGTERM once and 15 s; Cancelled, `finished work is kept`")


def test_a_run_is_cancelled_in_prefect(project: Dummy, api_url: str, note: Note) -> None:
    found = scene.begin(project, api_url)
    run = identity(found)
    scene.ask(api_url, f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
    begun_s = time.monotonic()
    assert found.run.wait(timeout=60) == 130, project.output()
    scene.assert_no_orphan(project)
    scene.assert_ends_in(found, run, {"CANCELLED"}, within_s=20)
    scene.assert_the_next_run_finishes(project)
    note("Cancel in Prefect's UI or API", f"stages get SIGTERM; everything has ended after {time.monotonic() - begun_s:.0f} s; Cancelled")


@pytest.mark.parametrize("shell", ["/bin/bash", "/bin/sh"])
def test_plain_dvc_is_killed(project: Dummy, api_url: str, note: Note, shell: str) -> None:
    process = project.start_program("dvc", "repro", SHELL=shell)
    project.wait_for("train_backbone@r0")
    deadline_s = time.monotonic() + 30
    while scene.steps_done(project, "r0") < 8:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    process.kill()
    process.wait()
    scene.assert_no_orphan(project)
    assert project.counts("stopped") == {"train_backbone@r0": 1}
    scene.assert_the_next_run_finishes(project)
    if shell == "/bin/sh":
        note("SIGKILL of plain `dvc repro`", "its stage gets SIGTERM, also behind a shell; `facet run` continues from the checkpoint")
