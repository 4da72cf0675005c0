"""What the coordinator of a pool does by itself: git and DVC are real, nobody is in the pool."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest

from pipeline.base import environment
from pipeline.devices.leases import Device, try_lease
from pipeline.execution.stage_result import StageResult
from pipeline.workers import code_transfer, pool_executor
from pipeline.workers.pool_executor import PoolExecutor
from tests.machines.network import Network
from tests.pipeline.dummy import Dummy


class NoServer:
    """A pool without workers."""

    def __init__(self, name: str) -> None:
        self.name = name

    def twin(self) -> NoServer:
        return self

    def prepare(self, queue: str) -> None:
        """There is nothing to prepare."""

    def workers(self) -> dict[str, bool]:
        return {}

    def read(self, wanted: list[UUID]) -> dict[UUID, object]:
        return {}

    def mark_lost_of(self, workers: set[str]) -> None:
        """Nothing is lost."""


@pytest.fixture
def coordinate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], PoolExecutor]]:
    """Make the executor of one `facet run --pool`; it is closed by the test or after it."""
    monkeypatch.setattr(pool_executor, "StagePool", NoServer)
    made: list[PoolExecutor] = []

    def make(root: Path) -> PoolExecutor:
        made.append(PoolExecutor(root, "stages"))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_a_run_that_ends_leaves_the_code_of_another_run_of_the_same_tree(
    tmp_path: Path, coordinate: Callable[[Path], PoolExecutor]
) -> None:
    network = Network(tmp_path, "", str(tmp_path / "store"))
    network.found(1)
    coordinator, other = network.machine("coordinator"), network.machine("other")
    coordinator.edit("r0", margin=0.9)
    with closing(coordinate(coordinator.path)) as second:
        with closing(coordinate(coordinator.path)) as first:
            assert first._send_code()["commit"] == second._send_code()["commit"]
        sent = second._send_code()
        tree = tmp_path / "tree"
        code_transfer.check_out(other.path, tree, sent["commit"], sent["reference"])
        assert Dummy(tree).params()["runs"]["r0"]["margin"] == 0.9
    assert network.references() == ["refs/heads/main"]


def test_what_runs_here_takes_a_core_however_many_stages_are_in_the_pool(
    make_dummy: Callable[..., Dummy], coordinate: Callable[[Path], PoolExecutor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "num_cores", lambda: 1)
    project = make_dummy(1)
    executor = coordinate(project.path)
    assert executor.jobs > 1
    stage = next(s for s in executor.read_graph().stages.values() if s.name == "unpack")
    busy = try_lease(Device("cpu:0"), executor.slot_folder)
    assert busy is not None
    outcomes: list[StageResult] = []
    thread = threading.Thread(target=lambda: outcomes.append(executor._run_here(stage, lambda line: None)))
    thread.start()
    thread.join(3)
    assert outcomes == []
    assert project.counts() == {}
    busy.release()
    thread.join(60)
    assert [outcome.state for outcome in outcomes] == ["executed"]
    assert project.journal()[0]["device"] == "cpu:0"
