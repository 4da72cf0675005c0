"""Workers of a pool are killed, alone and together with the run that sent them stages; the DVC remote falls silent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.faults import scene
from tests.faults.scene import Note, Scene
from tests.machines.network import Machine, Network, end
from tests.pipeline import dummy
from tests.pipeline.dummy import Dummy

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(400)]

POOL = "faulty"


def start_worker(project: Dummy, device: str) -> subprocess.Popen[str]:
    """Start a worker of a project's own workspace and wait until it has joined."""
    log = project.path / ".facet" / f"{device}.log"
    log.parent.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "pipeline.cli", "worker", "--device", device, "--pool", POOL]
    with log.open("w") as out:
        process = subprocess.Popen(
            command, cwd=project.path, env=project.environment(), stdout=out, stderr=out, text=True, start_new_session=True
        )
    dummy.wait_until(lambda: "takes stages" in log.read_text())
    return process


@pytest.fixture
def workers(project: Dummy) -> Iterator[list[subprocess.Popen[str]]]:
    started = [start_worker(project, f"cpu:{i}") for i in (0, 1)]
    yield started
    end(started)


def stage_states(api_url: str, run: str) -> dict[str, str]:
    """Return how the stages stand that a flow run has sent to the pool, the newest of each name."""
    body = {"flows": {"name": {"any_": ["facet stage"]}}, "sort": "EXPECTED_START_TIME_ASC"}
    found = scene.ask(api_url, "/flow_runs/filter", body)
    return {each["name"]: each["state_type"] for each in found if each["parameters"]["request"]["parent"] == run}


def wait_for_states(found: Scene, run: str, flow: str, stages: str, within_s: float = 120) -> float:
    """Wait until the server shows a flow run, and all its trainings in the pool, in these states; return seconds."""
    begun_s = time.monotonic()
    while True:
        state = scene.ask(found.api_url, f"/flow_runs/{run}")["state"]["type"]
        states = {name: each for name, each in stage_states(found.api_url, run).items() if name.startswith("train")}
        if state == flow and set(states.values()) == {stages}:
            return time.monotonic() - begun_s
        assert time.monotonic() - begun_s < within_s, (state, states)
        time.sleep(1)


def test_a_worker_is_killed(
    project: Dummy, api_url: str, note: Note, workers: list[subprocess.Popen[str]]
) -> None:
    found = scene.begin(project, api_url, "--pool", POOL)
    (run,) = found.flow_run_ids()
    lost = found.training()
    worker = next(each for each in workers if lost in {p.pid for p in psutil.Process(each.pid).children(recursive=True)})
    worker.kill()
    worker.wait()
    dummy.wait_until_dead(lost)
    killed_s = time.monotonic()
    assert found.run.wait(timeout=180) == 0, project.output()
    took_s = time.monotonic() - killed_s
    end(workers)
    scene.assert_no_orphan(project)
    scene.assert_ends_in(found, run, {"COMPLETED"}, within_s=10)
    assert set(stage_states(api_url, run).values()) == {"COMPLETED"}
    scene.assert_the_next_run_finishes(project)
    note(
        "SIGKILL of a worker of a pool",
        f"its training stage gets SIGTERM; another worker continues it from its checkpoint; all is done {took_s:.0f} s later; Completed",
    )


def test_worker_and_run_are_killed_at_once(
    project: Dummy, api_url: str, note: Note, workers: list[subprocess.Popen[str]]
) -> None:
    project.write_params(project.params() | {"steps": 1000})
    found = scene.begin(project, api_url, "--pool", POOL)
    (run,) = found.flow_run_ids()
    for process in (found.run, *workers):
        process.kill()
    for process in (found.run, *workers):
        process.wait()
    scene.assert_no_orphan(project)
    # nobody of ours is left: the server finds out by itself
    took_s = wait_for_states(found, run, "CRASHED", "CRASHED")
    project.write_params(project.params() | {"steps": scene.STEPS_OF_ONE})
    scene.assert_the_next_run_finishes(project)
    scene.assert_ends_in(found, run, {"CRASHED"}, within_s=5, tasks_too=False)
    note(
        "SIGKILL of all workers and of `facet run` at once",
        f"all stages end with SIGTERM; the run and its stages are Crashed after {took_s:.0f} s by missing heartbeats",
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
    pool = f"{POOL}-far"
    worker = other.start_worker(pool)
    run = ("run", "--pool", pool, "--no-track")
    sentence = f"the DVC remote has not answered for {patience_s} s"
    try:
        # silent when results are to be sent
        process = coordinator.start(*run)
        try:
            dummy.wait_until(lambda: sum(other.executed().values()) > 0)
            store.be_silent()
            silent_s = time.monotonic()
            assert process.wait(8 * patience_s) == 1, coordinator.output()
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
    assert other.executed() == {f"{kind}@r{i}": 1 for kind in ("train_backbone", "evaluate_hq") for i in (0, 1)} | {"tabulate@heads": 1}
    assert coordinator.run("dvc", "status").stdout.strip() == "Data and pipelines are up to date."
    assert "nothing to do" in coordinator.facet(*run).stdout
    scene.assert_no_orphan(coordinator, within_s=5)
    note(
        "The DVC remote of a pool accepts connections and never answers",
        f"with a limit of {patience_s} s (FACET_REMOTE_TIMEOUT; default 300 s) a run ends {early_s:.0f} s after it began, "
        f"{late_s:.0f} s after it if results were on their way: Failed, with one sentence; the next run sends them and trains nothing again",
    )
