"""What the coordinator of a pool does by itself: git and DVC are real, nobody is in the pool."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest

from pipeline import pool_executor, pool_git
from pipeline.pool_executor import PoolExecutor
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
        pool_git.check_out(other.path, tree, sent["commit"], sent["reference"])
        assert Dummy(tree).params()["runs"]["r0"]["margin"] == 0.9
    assert network.references() == ["refs/heads/main"]
