"""Training runs in a pool while its workers, their processes and the run that sent them die; a DVC remote falls silent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.faults import scene
from tests.faults.scene import Note
from tests.machines.network import Machine, Network, end
from tests.pipeline import dummy

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(600)]

KEYS = ("r0", "r1")
STEPS = 400
"""Of .1 s: the two workers may start their training runs some seconds apart."""


@dataclass
class Cluster:
    """A coordinator and two machines, with a worker of Prefect's each, which have begun a training run each."""

    network: Network
    pool: str
    coordinator: Machine
    machines: list[Machine]
    workers: list[subprocess.Popen[str]]
    run: subprocess.Popen[str]

    def of(self, key: str) -> Machine:
        """Return the machine that trains a run."""
        (found,) = [each for each in self.machines if f"train_backbone@{key}" in each.counts()]
        return found

    def engine(self, key: str) -> psutil.Process:
        """Return the process of the flow run of a training run."""
        return next(each for each in engines(self.machines) if of_machine(each) == str(self.of(key).path))

    def program(self, key: str) -> int:
        """Return the process of a training program."""
        return int(self.of(key).wait_for(f"train_backbone@{key}")["pid"])

    def states(self) -> dict[str, str]:
        """Return how the newest flow run of each training run stands."""
        body = {"work_pools": {"name": {"any_": [self.pool]}}, "sort": "EXPECTED_START_TIME_ASC"}
        return {run["name"]: run["state_type"] for run in scene.ask(self.network.api_url, "/flow_runs/filter", body)}

    def firsts(self, key: str) -> list[int]:
        """Return the step from which each attempt of a training began."""
        told = [each for machine in self.machines for each in scene.all_entries(machine)]
        told = sorted((each for each in told if each["stage"] == f"train_backbone@{key}"), key=lambda each: each["time"])
        return [int(each["what"].removeprefix("from ")) for each in told if each["what"].startswith("from")]

    def assert_done_once(self) -> None:
        """Assert that all is done, that each program ended well once, and that nothing is left running."""
        ended = sum((each.counts("end") for each in (self.coordinator, *self.machines)), Counter())
        assert ended == dict.fromkeys(self.coordinator.lock_entries(), 1)
        assert self.coordinator.run("dvc", "status").stdout.strip() == "Data and pipelines are up to date."
        end(self.workers)
        for machine in (self.coordinator, *self.machines):
            scene.assert_no_orphan(machine)


def engines(machines: Sequence[Machine]) -> list[psutil.Process]:
    """Return the processes of flow runs on these machines."""
    paths = {str(machine.path) for machine in machines}
    found = []
    for process in psutil.process_iter():
        try:
            if "prefect.engine" in process.cmdline() and of_machine(process) in paths:
                found.append(process)
        except psutil.Error:
            continue
    return found


def of_machine(process: psutil.Process) -> str:
    return str(process.environ().get("FACET_PROJECT"))


@pytest.fixture
def cluster(tmp_path: Path, api_url: str, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    (tmp_path / "store").mkdir()
    network = Network(tmp_path, api_url, str(tmp_path / "store"))
    seed = scene.make(tmp_path / "seed", None)
    seed.write_params(seed.params() | {"steps": STEPS})
    network.publish(seed)
    coordinator, machines = network.machine("coordinator"), [network.machine("west"), network.machine("east")]
    pool = request.node.name
    workers = [machine.start_worker(pool) for machine in machines]
    made = Cluster(network, pool, coordinator, machines, workers, coordinator.start("run", "--no-track", "--pool", pool))
    try:
        dummy.wait_until(lambda: all(_steps(machines, key) >= 8 for key in KEYS), 200)
        yield made
    finally:
        coordinator.stop(made.run)
        for process in engines(machines):
            process.kill()
        end(workers)


def _steps(machines: Sequence[Machine], key: str) -> int:
    """Return the step of a training run's last checkpoint."""
    found = [path for machine in machines for path in machine.path.glob(f".facet/training-runs/*/.facet/checkpoints/{key}")]
    return max((int(path.read_text() or 0) for path in found), default=0)


def test_a_worker_is_killed(cluster: Cluster, note: Note) -> None:
    engine = cluster.engine("r0")
    worker = next(each for each in cluster.workers if each.pid in {p.pid for p in engine.parents()})
    worker.kill()
    worker.wait()
    assert cluster.run.wait(timeout=180) == 0, cluster.coordinator.output()
    assert cluster.firsts("r0") == [0]
    assert cluster.states() == dict.fromkeys(KEYS, "COMPLETED")
    cluster.assert_done_once()
    note("SIGKILL of a worker of a pool", "its training runs go on and report by themselves; it takes no others; Completed")


def test_the_process_of_a_training_run_is_killed(cluster: Cluster, note: Note) -> None:
    lost = cluster.program("r0")
    cluster.engine("r0").kill()
    dummy.wait_until_dead(lost, 30)
    killed_s = time.monotonic()
    assert cluster.run.wait(timeout=180) == 0, cluster.coordinator.output()
    took_s = time.monotonic() - killed_s
    assert cluster.states() == dict.fromkeys(KEYS, "COMPLETED")
    first, second = cluster.firsts("r0")
    cluster.assert_done_once()
    note(
        "SIGKILL of the process of a training run in a pool",
        f"its training stage gets SIGTERM; the run is Crashed at once and sent again; on the same machine it continues from "
        f"its checkpoint; all is done {took_s:.0f} s later; Completed",
    )
    assert first == 0
    assert second >= 8


def test_a_worker_is_stopped(cluster: Cluster, note: Note) -> None:
    lost = cluster.program("r0")
    engine = cluster.engine("r0")
    worker = next(each for each in cluster.workers if each.pid in {p.pid for p in engine.parents()})
    worker.send_signal(signal.SIGTERM)
    dummy.wait_until_dead(lost, 60)
    stopped_s = time.monotonic()
    assert worker.wait(60) is not None
    assert cluster.run.wait(timeout=300) == 0, cluster.coordinator.output()
    took_s = time.monotonic() - stopped_s
    assert cluster.states() == dict.fromkeys(KEYS, "COMPLETED")
    cluster.assert_done_once()
    note(
        "SIGTERM of a worker of a pool",
        f"its training stage gets SIGTERM; the run is Crashed at once, and another machine's worker trains it; all is done {took_s:.0f} s later; "
        "Completed",
    )


def test_the_run_is_killed_and_another_wants_the_same(cluster: Cluster, note: Note) -> None:
    programs = [cluster.program(key) for key in KEYS]
    command = ("run", "--no-track", "--pool", cluster.pool)
    second = cluster.network.machine("second")
    other = second.start(*command)
    try:
        cluster.coordinator.stop(cluster.run)
        cluster.coordinator.facet(*command)
        assert other.wait(120) == 0, second.output()
    finally:
        second.stop(other)
    assert [cluster.program(key) for key in KEYS] == programs
    body = {"work_pools": {"name": {"any_": [cluster.pool]}}}
    states = [run["state_type"] for run in scene.ask(cluster.network.api_url, "/flow_runs/filter", body)]
    assert states == ["COMPLETED", "COMPLETED"]
    cluster.assert_done_once()
    note(
        "SIGKILL of `facet run --pool`",
        "its training runs go on; the next `facet run --pool`, or another clone's that wants the same, waits for them; Completed",
    )


def test_workers_training_runs_and_run_are_killed_at_once(cluster: Cluster, note: Note) -> None:
    (run,) = [path.stem for path in (cluster.coordinator.path / ".facet/flow-runs").glob("*.json")]
    for pid in [each.pid for each in (cluster.run, *cluster.workers)]:
        os.kill(pid, signal.SIGKILL)
    for process in engines(cluster.machines):
        process.kill()
    for process in (cluster.run, *cluster.workers):
        process.wait()
    for machine in (cluster.coordinator, *cluster.machines):
        scene.assert_no_orphan(machine)
    # nobody of ours is left: the server finds out by itself
    begun_s = time.monotonic()
    while {scene.ask(cluster.network.api_url, f"/flow_runs/{run}")["state"]["type"], *cluster.states().values()} != {"CRASHED"}:
        assert time.monotonic() - begun_s < 150, cluster.states()
        time.sleep(1)
    took_s = time.monotonic() - begun_s
    cluster.workers = [machine.start_worker(cluster.pool) for machine in cluster.machines]
    cluster.coordinator.facet("run", "--no-track", "--pool", cluster.pool)
    cluster.assert_done_once()
    note(
        "SIGKILL of all workers, of their training runs and of `facet run` at once",
        f"all stages end with SIGTERM; training runs are Crashed some seconds later, and the run after {took_s:.0f} s by missing heartbeats; "
        "the next run sends them again",
    )


class Store:
    """A DVC remote over HTTP that can be told to answer no more: connections are taken, nothing comes back."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        command = [sys.executable, "-m", "tests.faults.http_store", str(folder)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()

    def be_silent(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def speak(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "store")
    yield made
    made.close()


def refuse(machine: Machine, *arguments: str) -> tuple[str, float]:
    """Run a facet command that must fail; return what it says and how long it took."""
    begun_s = time.monotonic()
    answer = machine.run(sys.executable, "-m", "pipeline.cli", *arguments, code=1)
    return answer.stdout + answer.stderr, time.monotonic() - begun_s


def test_the_remote_of_a_pool_is_silent(tmp_path: Path, api_url: str, note: Note, store: Store) -> None:
    patience_s = 12
    network = Network(tmp_path, api_url, store.url, [("method", "PUT")], {"FACET_REMOTE_TIMEOUT": str(patience_s)})
    network.found(2, {"train_backbone": 3})
    coordinator, other = network.machine("coordinator"), network.machine("other")
    pool = "silent"
    worker = other.start_worker(pool)
    run = ("run", "--pool", pool, "--no-track")
    sentence = f"the DVC remote has not answered for {patience_s} s"
    try:
        # silent when results are to be sent
        process = coordinator.start(*run)
        try:
            dummy.wait_until(lambda: sum(other.executed().values()) > 0, 180)
            store.be_silent()
            silent_s = time.monotonic()
            assert process.wait(15 * patience_s) == 1, coordinator.output()
            late_s = time.monotonic() - silent_s
        finally:
            coordinator.stop(process)
        assert sentence in coordinator.output()
        assert coordinator.last_run()["state"] == "FAILED"
        trained = other.executed()
        # silent from the first word on
        said, early_s = refuse(coordinator, *run)
        assert sentence in said
        assert other.executed() == trained
        scene.assert_no_orphan(coordinator, within_s=5)
        store.speak()
        coordinator.facet(*run)
    finally:
        store.speak()
        end([worker])
    assert other.executed() == {f"{kind}@r{i}": 1 for kind in ("train_backbone", "evaluate_hq") for i in (0, 1)}
    assert coordinator.run("dvc", "status").stdout.strip() == "Data and pipelines are up to date."
    assert "nothing to do" in coordinator.facet(*run).stdout
    scene.assert_no_orphan(coordinator, within_s=5)
    note(
        "The DVC remote of a pool accepts connections and never answers",
        f"with a limit of {patience_s} s (FACET_REMOTE_TIMEOUT; default 300 s) a run ends {early_s:.0f} s after it began, "
        f"{late_s:.0f} s after it if results were on their way: Failed, with one sentence; the next run sends them and trains nothing again",
    )
