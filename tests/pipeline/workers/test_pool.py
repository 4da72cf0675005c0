"""Training runs in a work pool: Prefect's real workers in clones, on a real Prefect server."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import fake_gpus
from tests.machines.network import Machine, Network, end
from tests.pipeline.asking import ask, task_runs
from tests.pipeline.dummy import wait_until, wait_until_dead

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

RUN = ("run", "--no-track", "--pool")
STAGES = [f"{kind}@r{i}" for kind in ("train_backbone", "evaluate_hq") for i in (0, 1)]


@contextmanager
def worker(machine: Machine, pool: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Prefect's worker in a clone."""
    process = machine.start_worker(pool, *options)
    try:
        yield process
    finally:
        end([process])


def founded(folder: Path, api_url: str, runs: int, **seconds: float) -> Network:
    """A project of so many training runs on a git remote, with a folder as its DVC remote."""
    (folder / "store").mkdir()
    network = Network(folder, api_url, str(folder / "store"))
    network.found(runs, dict(seconds))
    return network


def flow_runs(api_url: str, pool: str) -> dict[str, dict[str, Any]]:
    """Return the flow runs of training runs in a pool by name, the newest of each."""
    wanted = {"work_pools": {"name": {"any_": [pool]}}, "sort": "EXPECTED_START_TIME_ASC"}
    return {run["name"]: run for run in ask(api_url, "/flow_runs/filter", wanted)}


@dataclass
class Finished:
    """A run over three clones, of which the workers do not know what is not committed."""

    network: Network
    coordinator: Machine
    others: list[Machine]
    pool = "tests"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, api_url: str) -> Finished:
    """Two training runs after two machines ran them, one with two invented GPUs, one with one; to be looked at only."""
    network = founded(tmp_path_factory.mktemp("pool"), api_url, 2, train_backbone=2)
    coordinator, others = network.machine("coordinator"), [network.machine("small"), network.machine("large")]
    for machine, count in zip(others, (1, 2), strict=True):
        with pytest.MonkeyPatch.context() as patch:
            fake_gpus.listed(machine.folder, patch, count)
        machine.extra |= {"PATH": f"{machine.folder / 'bin'}:{machine.environment()['PATH']}"}
    coordinator.edit("r0", margin=0.9, processes=2)
    with worker(others[0], Finished.pool), worker(others[1], Finished.pool):
        coordinator.facet(*RUN, Finished.pool)
    return Finished(network, coordinator, others)


def test_each_training_run_travels_to_a_clone_and_its_results_back(finished: Finished) -> None:
    assert finished.coordinator.executed() == dict.fromkeys(["resolve", "unpack", "tabulate@heads"], 1)
    assert sum((each.executed() for each in finished.others), Counter()) == dict.fromkeys(STAGES, 1)
    for i in (0, 1):
        together = {f"{kind}@r{i}" for kind in ("train_backbone", "evaluate_hq")}
        assert any(together <= each.executed().keys() for each in finished.others)
    assert finished.coordinator.run("dvc", "status").stdout.strip() == "Data and pipelines are up to date."
    assert "evaluate_hq@r0" in (finished.coordinator.path / "results/r0/hq.json").read_text()


def test_a_training_of_two_processes_gets_two_devices_of_one_machine(finished: Finished) -> None:
    cuda = {entry["stage"]: entry["cuda"] for entry in finished.others[1].journal()}
    assert cuda["train_backbone@r0"] == "0,1"
    assert cuda["evaluate_hq@r0"] in ("0", "1")


def test_clones_of_workers_stay_as_they_were(finished: Finished) -> None:
    for each in finished.others:
        assert each.lock_entries() == set()
        assert each.trees() == []
        assert each.run("git", "status", "--porcelain").stdout == ""
    assert finished.network.references() == ["refs/heads/main"]


def test_a_training_run_is_a_flow_run_whose_tasks_are_its_stages(finished: Finished, api_url: str) -> None:
    run = flow_runs(api_url, finished.pool)["r0"]
    assert run["state"]["type"] == "COMPLETED"
    assert set(task_runs(api_url, run["id"])) == {"train_backbone@r0", "evaluate_hq@r0"}
    wanted = {"logs": {"task_run_id": {"any_": [task_runs(api_url, run["id"])["train_backbone@r0"]["id"]]}}}
    assert {"train_backbone@r0 begins", "train_backbone@r0 ends"} <= {log["message"] for log in ask(api_url, "/logs/filter", wanted)}


def test_the_run_that_sent_them_has_all_stages_as_tasks(finished: Finished, api_url: str) -> None:
    last = finished.coordinator.last_run()
    tasks = task_runs(api_url, last["flow_run_id"])
    assert set(tasks) == finished.coordinator.lock_entries()
    assert {task["state_type"] for task in tasks.values()} == {"COMPLETED"}


def test_a_cancelled_training_run_ends_and_the_others_go_on(tmp_path: Path, api_url: str) -> None:
    pool = "cancelled"
    network = founded(tmp_path, api_url, 2, train_backbone=200)
    coordinator, other = network.machine("coordinator"), network.machine("other")
    with worker(other, pool, "--limit", "2"):
        process = coordinator.start(*RUN, pool)
        try:
            begun = other.wait_for("train_backbone@r0", timeout_s=90)
            second = other.wait_for("train_backbone@r1", timeout_s=90)
            run = flow_runs(api_url, pool)["r0"]
            ask(api_url, f"/flow_runs/{run['id']}/set_state", {"state": {"type": "CANCELLING"}})
            wait_until_dead(begun["pid"], 30)
            wait_until(lambda: ask(api_url, f"/flow_runs/{run['id']}")["state"]["type"] == "CANCELLED")
            assert flow_runs(api_url, pool)["r1"]["state"]["type"] == "RUNNING"
            # and now all of it
            process.send_signal(signal.SIGTERM)
            wait_until_dead(second["pid"], 30)
            assert process.wait(90) == 130, coordinator.output()
            assert flow_runs(api_url, pool)["r1"]["state"]["type"] == "CANCELLED"
        finally:
            coordinator.stop(process)
    assert other.counts("end") == {}


def test_a_sweep_in_a_pool_is_refused_before_anything_is_made(tmp_path: Path, api_url: str) -> None:
    coordinator = founded(tmp_path, api_url, 1).machine("coordinator")
    sweep = ("run", "--set", "runs.r0.margin=0.1,0.2", "--pool", "any")
    answer = coordinator.run(sys.executable, "-m", "pipeline.cli", *sweep, code=2)
    assert "a sweep runs locally only: save it (--save TABLE)" in answer.stdout + answer.stderr
    assert not (coordinator.path / ".facet/sweeps").exists()
