"""Prefect's server is killed in mid-run and comes back: the run over two clones goes on. Minutes, so only when asked."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.servers import daemons, servers
from tests.machines.network import Network, end
from tests.pipeline.asking import ask, task_runs
from tests.pipeline.dummy import wait_until_dead

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not os.environ.get("FACET_FULL"), reason="takes minutes: FACET_FULL=1, or make machines"),
]

AWAY_S = 40.0
"""Longer than the 14 s after which Prefect's client gives up a request."""


def kill(folder: Path, name: str) -> None:
    """Kill a server with all its processes, as a machine that runs out of memory would."""
    members = daemons.recorded(folder)[name].members()
    for process in members:
        process.kill()
    for process in members:
        wait_until_dead(process.pid)


def test_a_run_survives_a_restart_of_the_server(tmp_path: Path) -> None:
    home, ports = tmp_path / "servers", {servers.PREFECT: 0, servers.MLFLOW: 0}
    home.mkdir()
    (tmp_path / "store").mkdir()
    url = servers.up(home, print, ports)[servers.PREFECT].url
    network = Network(tmp_path, f"{url}/api", str(tmp_path / "store"))
    network.found(2, {"train_backbone": 20})
    coordinator, other = network.machine("coordinator"), network.machine("other")
    workers = [other.start_worker("restarted")]
    run = coordinator.start("run", "--no-track", "--pool", "restarted")
    try:
        first = other.wait_for("train_backbone@r0", timeout_s=120)
        kill(home, servers.PREFECT)
        # the training ends meanwhile, and cannot say so
        time.sleep(AWAY_S)
        assert servers.up(home, print, ports)[servers.PREFECT].url == url
        assert run.wait(200) == 0, coordinator.output()
        assert [each["pid"] for each in other.journal() if each["stage"] == first["stage"]] == [first["pid"]]
        assert other.executed() == {f"{kind}@r{i}": 1 for kind in ("train_backbone", "evaluate_hq") for i in (0, 1)}
        last = coordinator.last_run()["flow_run_id"]
        assert ask(network.api_url, f"/flow_runs/{last}")["state"]["type"] == "COMPLETED"
        assert {task["state_type"] for task in task_runs(network.api_url, last).values()} == {"COMPLETED"}
        wanted = {"work_pools": {"name": {"any_": ["restarted"]}}}
        runs = {each["name"]: each["state_type"] for each in ask(network.api_url, "/flow_runs/filter", wanted)}
        assert runs == {"r0": "COMPLETED", "r1": "COMPLETED"}
    finally:
        coordinator.stop(run)
        end(workers)
        servers.down(home)


def test_a_run_over_clones_joined_by_git_dvc_and_prefect() -> None:
    done = subprocess.run([sys.executable, "-m", "tests.machines.proof"], check=False)
    assert done.returncode == 0


def test_the_same_over_s3() -> None:
    pytest.importorskip("dvc_s3")
    pytest.importorskip("moto")
    done = subprocess.run([sys.executable, "-m", "tests.machines.proof", "--s3"], check=False)
    assert done.returncode == 0
