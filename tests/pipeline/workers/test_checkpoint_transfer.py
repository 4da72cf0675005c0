"""Checkpoints travel through the DVC remote to another machine, complete or not at all; DVC is real."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.execution.executor import Executor
from pipeline.workers import checkpoint_transfer
from pipeline.workers.checkpoint_transfer import Pushing
from stages.core.errors import InputError
from stages.training.checkpoints import MANIFEST, Checkpoints, Snapshot
from tests.machines.network import Network
from tests.pipeline.dummy import wait_until

pytestmark = pytest.mark.slow

KEY, NAME = "0123456789abcdef", "r0-desk"


class Place:
    """A clone with the checkpoints of a training run, and processes in it."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self.said, self.monkeypatch = path, list[str](), monkeypatch
        self.executor = Executor(path, jobs=1)

    def pushing(self) -> Pushing:
        self.monkeypatch.chdir(self.path)
        return Pushing(NAME, self.executor.forker, self.said.append)

    def save(self, *steps: int, best: int | None = None) -> None:
        self.monkeypatch.chdir(self.path)
        for step in steps:
            Checkpoints(KEY).save(Snapshot(step, {"at": step}, {}, 0, 3, best_step=best))

    def state(self) -> dict[str, Any] | None:
        self.monkeypatch.chdir(self.path)
        last = Checkpoints(KEY).last()
        return None if last is None else last.shared


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Place, Place, Path]]:
    """Two clones and the folder of the DVC remote."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.setenv("FACET_PUSH_CHECKPOINTS", "3600")
    (tmp_path / "store").mkdir()
    network = Network(tmp_path, "", str(tmp_path / "store"))
    network.found(1)
    places = [Place(network.machine(name).path, monkeypatch) for name in ("first", "second")]
    yield places[0], places[1], tmp_path / "store"
    for place in places:
        place.executor.close()


def there(store: Path) -> list[str]:
    return sorted(path.relative_to(store / "checkpoints" / NAME).parent.as_posix() for path in store.glob("checkpoints/*/*/*/*.json"))


def test_another_machine_goes_on_from_the_newest_checkpoint_and_its_best(machines: tuple[Place, Place, Path]):
    first, second, store = machines
    first.save(1, 2, 3, best=1)
    with first.pushing():
        pass
    assert there(store) == [f"{KEY}/step-{step:010d}" for step in (1, 3)]
    second.pushing().pull()
    assert second.state() == {"at": 3}
    assert Checkpoints(KEY).steps() == [1, 3]
    assert second.said == [f"gone on from {KEY}/step-0000000003, which another machine pushed"]
    # what it goes on to replaces what was there
    second.save(4)
    with second.pushing():
        pass
    assert there(store) == [f"{KEY}/step-0000000004"]
    second.pushing().remove()
    assert there(store) == []
    assert not list(store.glob("checkpoints/*/*"))


def test_a_machine_with_checkpoints_of_its_own_keeps_to_them(machines: tuple[Place, Place, Path]):
    first, second, _ = machines
    first.save(5)
    second.save(2)
    with first.pushing():
        pass
    second.pushing().pull()
    assert (second.state(), second.said) == ({"at": 2}, [])


def test_newer_checkpoints_are_pushed_while_the_training_runs(machines, monkeypatch: pytest.MonkeyPatch):
    first, _, store = machines
    monkeypatch.setenv("FACET_PUSH_CHECKPOINTS", "0.1")
    first.save(1)
    with first.pushing():
        wait_until(lambda: there(store) == [f"{KEY}/step-0000000001"])
        first.save(2)
        wait_until(lambda: there(store) == [f"{KEY}/step-0000000002"])
    assert first.said == [f"pushed checkpoint {KEY}/step-{step:010d}" for step in (1, 2)], "each once"


def test_what_was_pushed_in_part_is_not_gone_on_from(machines: tuple[Place, Place, Path], monkeypatch: pytest.MonkeyPatch):
    first, second, store = machines
    first.save(1)
    with first.pushing():
        pass
    # the next one breaks off: its files are there, and nothing names them
    half = store / "checkpoints" / NAME / KEY / "step-0000000002"
    half.mkdir()
    (half / MANIFEST).write_text("{")
    second.pushing().pull()
    assert second.state() == {"at": 1}


@pytest.mark.parametrize("name", ["../../../x/step-0000000001", f"{KEY}/../step-0000000001", "/tmp/step-0000000001"])
def test_a_remote_cannot_name_a_folder_outside(machines: tuple[Place, Place, Path], name: str):
    _, second, store = machines
    (store / "checkpoints" / NAME).mkdir(parents=True)
    (store / "checkpoints" / NAME / "last.json").write_text(json.dumps([name]))
    second.pushing().pull()
    assert second.state() is None
    assert "wanted KEY/step-NNNNNNNNNN" in second.said[0]


def test_a_remote_that_is_away_costs_the_copies_alone(machines: tuple[Place, Place, Path], tmp_path: Path):
    first, _, store = machines
    first.save(1)
    store.rename(tmp_path / "gone")
    store.write_text("no folder")
    with first.pushing():
        pass
    assert first.said
    assert first.said[0].startswith("checkpoints are not pushed to the DVC remote or pulled from it: ")
    assert first.state() == {"at": 1}


def test_nothing_is_pushed_unless_it_is_asked_for(machines, monkeypatch: pytest.MonkeyPatch):
    first, second, store = machines
    for text in ("", "0"):
        monkeypatch.setenv("FACET_PUSH_CHECKPOINTS", text)
        first.save(1)
        with first.pushing() as pushing:
            pushing.remove()
        second.pushing().pull()
    assert not (store / "checkpoints").exists()
    assert second.state() is None
    monkeypatch.setenv("FACET_PUSH_CHECKPOINTS", "often")
    with pytest.raises(InputError, match="wanted seconds between two looks"):
        checkpoint_transfer.interval_s()
