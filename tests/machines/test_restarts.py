"""Servers and workers killed in mid-run, on real processes with servers of their own: minutes, so only when asked."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.servers import daemons
from tests.pipeline import dummy
from tests.pipeline.asking import ask, task_runs
from tests.pipeline.dummy import Dummy, wait_until_dead

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not os.environ.get("FACET_FULL"), reason="takes minutes: FACET_FULL=1, or make machines"),
]


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Dummy]:
    """A project with servers, a worker, and a training of 30 s that waits for it."""
    project = dummy.make(tmp_path / "project", 2, {"train_backbone": 30})
    project.facet("up", "--cpu-workers", "1")
    try:
        yield project
    finally:
        project.facet("down")
        record = daemons.recorded(project.path)
        assert record == {}


def kill(project: Dummy, name: str) -> None:
    """Kill a server or worker with all its processes, as a machine that runs out of memory would."""
    members = daemons.recorded(project.path)[name].members()
    for process in members:
        process.kill()
    for process in members:
        wait_until_dead(process.pid)


def test_a_run_survives_its_servers_and_its_worker(project: Dummy) -> None:
    urls = {name: service.url for name, service in daemons.recorded(project.path).items()}
    coordinator: subprocess.Popen[str] = project.start("run", "--pool", "stages", "--no-track")
    try:
        first = project.wait_for("train_backbone@r0")
        kill(project, "prefect")
        kill(project, "mlflow")
        time.sleep(5)
        project.facet("up", "--cpu-workers", "1")
        assert {name: service.url for name, service in daemons.recorded(project.path).items()} == urls
        assert project.wait_for("train_backbone@r0", "end")["pid"] == first["pid"]
        second = project.wait_for("train_backbone@r1")
        kill(project, "worker cpu:0")
        wait_until_dead(second["pid"])
        project.slow_down()
        project.facet("up", "--cpu-workers", "1")
        assert coordinator.wait(200) == 0, project.output()
    finally:
        project.stop(coordinator)
    assert project.counts("end") == dict.fromkeys(
        ["resolve", "unpack", "tabulate@heads", *(f"{kind}@r{i}" for kind in ("train_backbone", "evaluate_hq")
                                                  for i in range(2))], 1)  # fmt: skip
    api_url, last = urls["prefect"] + "/api", project.last_run()
    assert ask(api_url, f"/flow_runs/{last['flow_run_id']}")["state"]["type"] == "COMPLETED"
    assert {run["state_type"] for run in task_runs(api_url, last["flow_run_id"]).values()} == {"COMPLETED"}
    wanted = {"flows": {"name": {"any_": ["facet stage"]}}}
    states = [(run["name"], run["state_type"]) for run in ask(api_url, "/flow_runs/filter", wanted)]
    assert sorted(states) == sorted(
        [("train_backbone@r1", "CRASHED"), ("tabulate@heads", "COMPLETED")]
        + [(f"{kind}@r{i}", "COMPLETED") for kind in ("train_backbone", "evaluate_hq") for i in range(2)]
    )


def test_the_stage_of_a_worker_that_never_comes_back_is_shown_as_crashed(project: Dummy) -> None:
    coordinator = project.start("run", "--pool", "stages", "--no-track")
    try:
        project.wait_for("train_backbone@r0")
        kill(project, "worker cpu:0")
        api_url = daemons.recorded(project.path)["prefect"].url + "/api"
        wanted = {"flows": {"name": {"any_": ["facet stage"]}}, "flow_runs": {"state": {"type": {"any_": ["CRASHED"]}}}}
        until_s = time.monotonic() + 120
        while not ask(api_url, "/flow_runs/filter", wanted):
            assert time.monotonic() < until_s
            time.sleep(1)
    finally:
        project.stop(coordinator)


def test_a_run_over_clones_joined_by_git_dvc_and_prefect() -> None:
    done = subprocess.run([sys.executable, "-m", "tests.machines.proof"], check=False)
    assert done.returncode == 0


def test_the_same_over_s3() -> None:
    pytest.importorskip("dvc_s3")
    pytest.importorskip("moto")
    done = subprocess.run([sys.executable, "-m", "tests.machines.proof", "--s3"], check=False)
    assert done.returncode == 0
