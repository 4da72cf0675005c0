"""What stages read and what they made travels between two clones: DVC and git are real, and no server is needed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.devices.leases import Device, Lease
from pipeline.execution.executor import Executor
from pipeline.execution.graph import Stage
from pipeline.workers import code_transfer, input_transfer, result_transfer
from pipeline.workers.remote_calls import Calls
from pipeline.workers.result_transfer import Offer
from tests.machines.network import Machine, Network
from tests.pipeline.dummy import Dummy

pytestmark = pytest.mark.slow

TRAIN, EVALUATE = "graph/train_backbone/dvc.yaml:train_backbone@r0", "graph/evaluate_hq/dvc.yaml:evaluate_hq@r0"
ABOVE = {TRAIN: ("resolve", "unpack"), EVALUATE: (TRAIN,)}


class Place:
    """A workspace, and processes in it."""

    def __init__(self, path: Path) -> None:
        self.project = Dummy(path)
        self.executor = Executor(path, jobs=1)

    def call(self, function: Any, **arguments: Any) -> Any:
        return Calls().call(self.executor.forker, function, **arguments)

    def run(self, address: str) -> str:
        stage = Stage(address, address.rpartition(":")[2], (), ())
        return self.executor.run(stage, Lease(Device("cpu:0"), []), lambda line: None).state

    def offer(self, *addresses: str) -> Offer:
        queue = str(self.project.path / ".facet/dvc-queue.lock")
        offered = self.call(result_transfer.offer, addresses=list(addresses), above=ABOVE, queue_path=queue)
        assert isinstance(offered, Offer)
        return offered


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Place, Machine, list[Place]]]:
    """A coordinator that has run what belongs to no training run, another clone, and what is to be closed."""
    for name in ("FACET_LEASES", "DVC_SITE_CACHE_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    (tmp_path / "store").mkdir()
    net = Network(tmp_path, "", str(tmp_path / "store"))
    net.found(1)
    coordinator = Place(net.machine("coordinator").path)
    opened = [coordinator]
    assert [coordinator.run(address) for address in ("resolve", "unpack")] == ["executed", "executed"]
    yield coordinator, net.machine("other"), opened
    for place in opened:
        place.executor.close()


def tree_of(coordinator: Place, other: Machine, opened: list[Place]) -> Place:
    """Return a workspace beside the other clone, at the coordinator's commit."""
    commit = code_transfer.snapshot(coordinator.project.path)
    code_transfer.push(coordinator.project.path, commit, "refs/facet/x")
    tree = other.path / ".facet/training-runs/r0"
    code_transfer.check_out(other.path, tree, commit, "refs/facet/x")
    opened.append(Place(tree))
    return opened[-1]


def receive(place: Place, offered: Offer, other: Machine) -> str:
    answer = place.call(input_transfer.receive, reads=offered.reads, inputs=list(offered.inputs), own=str(other.path))
    assert isinstance(answer, str)
    return answer


def test_a_training_run_and_its_results_travel(network: tuple[Place, Machine, list[Place]]) -> None:
    coordinator, other, opened = network
    offered = coordinator.offer(TRAIN, EVALUATE)
    assert offered.here == ""
    assert list(offered.reads) == [TRAIN, EVALUATE]
    assert {given["address"] for given in offered.inputs} == {"resolve", "unpack"}
    tree = tree_of(coordinator, other, opened)
    assert receive(tree, offered, other) == ""
    queue = str(coordinator.project.path / ".facet/dvc-queue.lock")
    for address in (TRAIN, EVALUATE):
        assert tree.run(address) == "executed"
        key, value = tree.call(result_transfer.publish, address=address)
        assert coordinator.call(result_transfer.fetch, address=address, key=key, value=value, queue_path=queue)
        assert coordinator.run(address) == "restored"
        # what another coordinator would find
        assert coordinator.offer(address).here == "it is up to date"
    assert "evaluate_hq@r0" in (coordinator.project.path / "results/r0/hq.json").read_text()
    (coordinator.project.path / "graph/evaluate_hq/dvc.lock").unlink()
    assert coordinator.offer(EVALUATE).here == "its result is already on the remote"
    coordinator.project.edit("r0", margin=0.9)
    assert coordinator.run("resolve") == "executed"
    assert list(coordinator.offer(TRAIN, EVALUATE).reads) == [TRAIN, EVALUATE], "what is known is another result"


def test_a_stage_whose_result_cannot_be_kept_stays_and_so_does_what_reads_of_it(
    network: tuple[Place, Machine, list[Place]],
) -> None:
    coordinator, _, _ = network
    graph = coordinator.project.path / "graph/evaluate_hq/dvc.yaml"
    graph.write_text(graph.read_text().replace("cache: false", "persist: true"))
    assert list(coordinator.offer(TRAIN, EVALUATE).reads) == [TRAIN]
    assert "DVC's run cache skips stages with `persist` outputs" in coordinator.offer(EVALUATE).here


@pytest.mark.parametrize(("there", "said"), [
    ("two", "this clone differs from the coordinator in own/data.txt"),
    (None, "own/data.txt: not the output of a stage and not in "),
])  # fmt: skip
def test_a_clone_whose_own_files_differ_is_refused_with_their_names(
    network: tuple[Place, Machine, list[Place]], there: str | None, said: str
) -> None:
    coordinator, other, opened = network
    for folder, text in ((coordinator.project.path, "one"), (other.path, there)):
        (folder / "own").mkdir()
        if text:
            (folder / "own/data.txt").write_text(text)
    ignored = coordinator.project.path / ".gitignore"
    ignored.write_text(ignored.read_text() + "/own/\n")
    graph = coordinator.project.path / "graph/train_backbone/dvc.yaml"
    graph.write_text(graph.read_text().replace("deps: [data/unpacked.txt]", "deps: [data/unpacked.txt, own/data.txt]"))
    offered = coordinator.offer(TRAIN, EVALUATE)
    assert receive(tree_of(coordinator, other, opened), offered, other).startswith(said)
