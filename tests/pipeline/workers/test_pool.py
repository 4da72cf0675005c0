"""Stages in a work pool: real workers of this workspace and of a clone, on a real Prefect server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.base import workspace
from pipeline.workers import code_transfer, pool_executor
from pipeline.workers.pool_executor import PoolExecutor
from tests.machines.network import Network, end
from tests.pipeline import dummy
from tests.pipeline.asking import ask
from tests.pipeline.dummy import Dummy, wait_until_dead

pytestmark = pytest.mark.slow

POOL = "tests"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, api_url: str) -> Dummy:
    """A project with two trainings and nothing run yet."""
    return dummy.make(tmp_path_factory.mktemp("pool") / "project", 2, api_url=api_url)


@contextmanager
def worker(project: Dummy) -> Iterator[subprocess.Popen[str]]:
    """A worker of a project's own workspace."""
    with (project.path.parent / "worker.log").open("w") as log:
        command = [sys.executable, "-m", "pipeline.cli", "worker", "--device", "cpu:1", "--pool", POOL]
        process = subprocess.Popen(command, cwd=project.path, env=project.environment(), stdout=log, stderr=log, text=True)
    try:
        yield process
    finally:
        end([process])


@pytest.fixture(scope="module")
def finished(project: Dummy) -> Iterator[Dummy]:
    """The project after a run in the pool, whose worker is still there; tests that share it only look."""
    with worker(project):
        project.facet("run", "--pool", POOL, "--no-track")
        yield project


def stage_runs(api_url: str, project: Dummy, name: str) -> list[dict[str, Any]]:
    """Return the flow runs of a stage that workers of this project had, the newest first."""
    wanted = {"flow_runs": {"name": {"any_": [name]}}, "sort": "EXPECTED_START_TIME_DESC"}
    here = workspace.identity(project.path)
    return [run for run in ask(api_url, "/flow_runs/filter", wanted) if here in str(run["work_queue_name"])]


def test_what_needs_a_device_runs_on_the_worker_and_the_rest_here(finished: Dummy) -> None:
    assert set(finished.counts().values()) == {1}
    devices = {entry["stage"]: entry["device"] for entry in finished.journal()}
    assert {devices[f"{kind}@r{i}"] for kind in ("train_backbone", "evaluate_hq") for i in range(2)} == {"cpu:1"}
    assert devices["unpack"] == "cpu:0"
    assert finished.run("dvc", "status").stdout.strip() == "Data and pipelines are up to date."


def test_a_stage_in_the_pool_is_a_flow_run_with_its_lines_and_its_worker(finished: Dummy, api_url: str) -> None:
    (run,) = stage_runs(api_url, finished, "train_backbone@r0")
    assert run["state"]["type"] == "COMPLETED"
    name = workspace.worker_name("cpu:1", workspace.identity(finished.path))
    assert run["state"]["message"].endswith(f"on {name}")
    wanted = {"logs": {"flow_run_id": {"any_": [run["id"]]}}}
    messages = {log["message"] for log in ask(api_url, "/logs/filter", wanted)}
    assert {"train_backbone@r0 begins", "train_backbone@r0 ends"} <= messages
    online = {each["name"]: each["status"] for each in ask(api_url, f"/work_pools/{POOL}/workers/filter", {})}
    assert online[name] == "ONLINE"


def test_cancelling_a_stage_in_the_pool_ends_its_program_and_the_rest_goes_on(tmp_path: Path, api_url: str) -> None:
    own = dummy.make(tmp_path / "project", 2, {"train_backbone": 200}, api_url)
    with worker(own):
        process = own.start("run", "--pool", POOL, "--no-track")
        try:
            until_s = time.monotonic() + 200
            while not (begun := [each for each in own.journal() if each["stage"].startswith("train")]):
                assert time.monotonic() < until_s, own.output()
                time.sleep(0.05)
            own.slow_down()  # the other training sleeps no more
            (run,) = stage_runs(api_url, own, begun[0]["stage"])
            ask(api_url, f"/flow_runs/{run['id']}/set_state", {"state": {"type": "CANCELLING"}})
            wait_until_dead(begun[0]["pid"])
            assert process.wait(200) == 1
        finally:
            own.stop(process)
    assert ask(api_url, f"/flow_runs/{run['id']}")["state"]["type"] == "CANCELLED"
    other = {"train_backbone@r0", "train_backbone@r1"} - {begun[0]["stage"]}
    assert set(own.counts("end")) >= other


@pytest.mark.skipif(not os.environ.get("FACET_FULL"), reason="half a minute: FACET_FULL=1, or make machines")
def test_a_stopped_worker_gives_its_stage_back_and_leaves_no_process(project: Dummy, api_url: str, tmp_path: Path) -> None:
    own = dummy.make(tmp_path / "project", 1, {"train_backbone": 60}, api_url)
    with (tmp_path / "worker.log").open("w") as log:
        command = [sys.executable, "-m", "pipeline.cli", "worker", "--pool", POOL]
        process = subprocess.Popen(command, cwd=own.path, env=own.environment(), stdout=log, stderr=log, text=True)
    coordinator = own.start("run", "--pool", POOL, "--no-track")
    try:
        training = own.wait_for("train_backbone@r0")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        wait_until_dead(training["pid"])
        (run,) = stage_runs(api_url, own, "train_backbone@r0")
        assert (run["state"]["type"], run["state"]["name"]) == ("SCHEDULED", "AwaitingRetry")
        coordinator.send_signal(signal.SIGTERM)
        assert coordinator.wait(60) == 130
        assert ask(api_url, f"/flow_runs/{run['id']}")["state"]["type"] == "CANCELLED"
    finally:
        own.stop(coordinator)
        end([process])


def test_a_training_of_several_processes_is_refused_in_a_sentence(tmp_path: Path, api_url: str) -> None:
    own = dummy.make(tmp_path / "project", 1, api_url=api_url)
    own.edit("r0", processes=2)
    answer = own.run(sys.executable, "-m", "pipeline.cli", "run", "--pool", POOL, "--no-track", code=1)
    said = "it trains with 2 processes, but a worker has one device: run it without --pool"
    assert said in answer.stdout + answer.stderr
    assert set(own.counts()) == {"resolve", "unpack"}


def test_a_sweep_in_a_pool_is_refused_before_anything_is_made(project: Dummy) -> None:
    sweep = ("run", "--set", "runs.r0.margin=0.1,0.2", "--pool", POOL)
    answer = project.run(sys.executable, "-m", "pipeline.cli", *sweep, code=2)
    assert "a sweep runs locally only: save it (--save TABLE)" in answer.stdout + answer.stderr
    assert not (project.path / ".facet/sweeps").exists()


def test_a_stage_travels_to_a_clone_and_its_result_back(tmp_path: Path, api_url: str) -> None:
    (tmp_path / "store").mkdir()
    network = Network(tmp_path, api_url, str(tmp_path / "store"))
    network.found(1)
    coordinator, other = network.machine("coordinator"), network.machine("other")
    process = other.start_worker(f"{POOL}-far")
    try:
        coordinator.edit("r0", margin=0.9)
        coordinator.facet("run", "--pool", f"{POOL}-far", "--no-track")
    finally:
        end([process])
    assert set(coordinator.executed()) == {"resolve", "unpack"}
    assert other.executed() == {"train_backbone@r0": 1, "evaluate_hq@r0": 1, "tabulate@heads": 1}
    assert coordinator.run("dvc", "status").stdout.strip() == "Data and pipelines are up to date."
    assert "evaluate_hq@r0" in (coordinator.path / "results/r0/hq.json").read_text()
    assert other.lock_entries() == set()
    assert other.run("git", "status", "--porcelain").stdout == ""
    assert network.references() == ["refs/heads/main"]


def test_a_snapshot_has_what_is_not_committed_and_changes_nothing(tmp_path: Path) -> None:
    project = dummy.make(tmp_path / "project", 1)
    who = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b.c", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b.c"}
    project.run("git", "add", "-A")
    project.run("git", "commit", "-qm", "start", **who)
    head = project.run("git", "rev-parse", "HEAD").stdout.strip()
    assert code_transfer.snapshot(project.path) == head
    project.edit("r0", margin=0.9)
    (project.path / "new.py").write_text("new\n")
    before = project.run("git", "status", "--porcelain").stdout
    commit = code_transfer.snapshot(project.path)
    assert commit != head
    assert "margin: 0.9" in project.run("git", "show", f"{commit}:params.yaml").stdout
    assert project.run("git", "show", f"{commit}:new.py").stdout == "new\n"
    assert project.run("git", "status", "--porcelain").stdout == before
    assert code_transfer.snapshot(project.path) == commit


def test_a_large_file_that_git_does_not_know_is_not_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = dummy.make(tmp_path / "project", 1)
    who = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b.c", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b.c"}
    project.run("git", "commit", "-qm", "start", "--allow-empty", **who)
    monkeypatch.setattr(code_transfer, "MAX_UNTRACKED", 100)
    with pytest.raises(ValueError, match=r"neither in git nor ignored: .*put it under DVC or into .gitignore"):
        code_transfer.snapshot(project.path)


def test_without_a_git_remote_the_error_says_what_to_add(tmp_path: Path) -> None:
    project = dummy.make(tmp_path / "project", 1)
    with pytest.raises(LookupError, match=r"remotes of this clone are none: run `git remote add origin URL`"):
        code_transfer.remote_of(project.path)


def test_a_copied_folder_is_another_workspace(tmp_path: Path) -> None:
    first = workspace.identity(tmp_path / "one")
    assert workspace.identity(tmp_path / "one") == first
    (tmp_path / "one").rename(tmp_path / "two")
    assert workspace.identity(tmp_path / "two") != first


class Awaited(PoolExecutor):
    """An executor that knows of workers without a server."""

    def __init__(self, root: Path, online: set[str]) -> None:
        self.root, self.here, self.online = root, workspace.identity(root), online
        self.pool, self.git = SimpleNamespace(name="tests"), threading.Lock()
        self.unreachable, self.stop_asked_s, self.began_s = "this clone has no git remote", None, time.monotonic()


def test_a_worker_of_this_workspace_that_is_just_starting_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = workspace.worker_name("cpu:0", workspace.identity(tmp_path / "other"))
    own = workspace.worker_name("cpu:0", workspace.identity(tmp_path))
    executor = Awaited(tmp_path, {other})
    threading.Timer(0.2, lambda: setattr(executor, "online", {other, own})).start()
    assert not executor._others(), "sent to this workspace's own queue"
    executor.online = {other}
    monkeypatch.setattr(pool_executor, "OWN_WORKER_S", 0.1)
    with pytest.raises(LookupError, match="workers of other clones only: this clone has no git remote"):
        executor._others()
