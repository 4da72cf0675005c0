"""What changes, goes away or is interrupted while MLflow is filled."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.base.workspace import Workspace, of_project
from pipeline.tracking import recorded_ids, store, sync
from tests.pipeline import fabricated
from tests.pipeline.dummy import wait_until
from tests.pipeline.tracked import quietly, recorded_runs
from tests.support import ROOT


@pytest.fixture
def root(tmp_path: Path, empty_store: Path) -> Path:
    """A folder with an empty MLflow."""
    shutil.copytree(empty_store, tmp_path / "tracking")
    facts = {**json.loads((tmp_path / "tracking/store.json").read_text()), "folder": str(tmp_path / "tracking")}
    (tmp_path / "tracking/store.json").write_text(json.dumps(facts))
    return tmp_path


def marks(root: Path, mine: Callable[[str], bool] = store.PROJECT.has) -> Counter[bool]:
    found = recorded_runs(root / "tracking/mlflow.db", mine)
    return Counter(run.current for runs in found.values() for run in runs)


def track_while_held(root: Path, act: Callable[[], object], change: Callable[[], object]) -> None:
    """Let ``act`` wait for the store, which somebody else holds; meanwhile results change."""
    asked, failed = threading.Event(), []
    alone = store.alone

    def body() -> None:
        try:
            with quietly():
                act()
        except Exception as error:
            failed.append(error)

    def telling(root: Path) -> Any:
        asked.set()
        return alone(root)

    thread = threading.Thread(target=body)
    with pytest.MonkeyPatch.context() as patch:
        with alone(root):
            patch.setattr(store, "alone", telling)
            thread.start()
            assert asked.wait(30)
            change()
        thread.join(200)
    assert failed == []


def test_who_waited_for_the_store_records_what_is_there_now(root: Path) -> None:
    fabricated.make(root, rows=("arcface",), margin=0.5)
    track_while_held(root, lambda: sync.track(root), lambda: fabricated.make(root, rows=("arcface",), margin=0.9))
    before = recorded_runs(root / "tracking/mlflow.db")
    assert before
    with quietly():
        assert sync.track(root).created == ()
    assert recorded_runs(root / "tracking/mlflow.db") == before


def test_who_waited_with_a_side_workspace_records_the_table_that_is_there_now(root: Path) -> None:
    where = Workspace(root / "made", root, "sweep", "r1_0")
    where.folder.mkdir()
    fabricated.make(where.folder, rows=("arcface",), margin=0.5)
    change = lambda: fabricated.make(where.folder, rows=("arcface",), margin=0.9)  # noqa: E731
    track_while_held(root, lambda: sync.track(root, workspace=where), change)
    with quietly():
        assert sync.track(root, workspace=where).created == ()
    # a published row, a measured one, its training, the report
    assert marks(root, lambda key: key.startswith("sweep.")) == {True: 4}


@pytest.mark.parametrize("gone", ["heads-arcface", "heads-arcface-1"])
def test_a_row_of_two_seeds_that_is_locked_but_not_here_stays_current(root: Path, gone: str) -> None:
    fabricated.make(root, seeds=2, rows=("arcface", "cosface"))
    with quietly():
        sync.track(root)
    # a published row, two measured ones; four trainings, twice: as such and as seeds; the report
    assert marks(root) == {True: 1 + 2 + 4 + 4 + 1}
    row = root / f"results/tables/heads/rows/{gone}.json"
    away = row.rename(root / "away.json")
    with quietly():
        assert "heads/ArcFace" in sync.track(root).waiting
    assert marks(root) == {True: 12}
    away.rename(row)
    with quietly():
        assert sync.track(root).created == ()


def test_a_row_one_of_whose_seeds_is_not_locked_is_not_locked_as_a_whole(root: Path) -> None:
    fabricated.make(root, seeds=2, rows=("arcface",))
    with quietly():
        sync.track(root)
    lock = yaml.safe_load((root / "dvc.lock").read_text())
    del lock["stages"]["row@heads-arcface-1"]
    (root / "dvc.lock").write_text(yaml.safe_dump(lock))
    with quietly():
        sync.track(root)
    assert marks(root)[False] == 2, "the row, and the seed that is no more"


def test_ids_that_are_lost_or_of_another_store_are_written_again_from_the_store(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, side = of_project(root), Workspace(root / "made", root, "sweep", "r1_0")
    side.folder.mkdir()
    fabricated.make(root, rows=("arcface",))
    fabricated.make(side.folder, rows=("cosface",))
    with quietly():
        sync.track(root)
        sync.track(root, workspace=side)
    links = [recorded_ids.run_links(at, "http://here") for at in (here, side)]
    assert [len(found) for found in links] == [3, 3], "a row, a training and a report of each, in one store"
    assert sync.is_recorded(here)
    assert sync.is_recorded(side)

    (root / "tracking/ids.json").unlink()
    assert recorded_ids.run_links(here, "http://here") == {}
    assert not sync.is_recorded(side)
    with quietly():
        assert sync.track(root).created == ()
    assert [recorded_ids.run_links(at, "http://here") for at in (here, side)] == links
    assert sync.is_recorded(side)

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'other/mlflow.db'}")
    assert recorded_ids.experiment_links(here, "http://here", ["heads"]) == {}
    assert not sync.is_recorded(here)


def test_a_new_database_in_place_of_a_deleted_one_has_no_links_to_what_was_recorded(root: Path) -> None:
    here = of_project(root)
    fabricated.make(root, rows=("arcface",))
    with quietly():
        sync.track(root)
    (root / "tracking/mlflow.db").rename(root / "tracking/away.db")
    assert recorded_ids.runs(here) == {}
    with quietly():
        sync.initialise_store(root)  # as `facet up` does
    assert (root / "tracking/mlflow.db").is_file()
    assert recorded_ids.runs(here) == {}
    assert not sync.is_recorded(here)


def test_results_that_come_back_are_linked_to_the_run_recorded_first(root: Path) -> None:
    found = []
    for margin in (0.5, 0.9, 0.5):
        fabricated.make(root, rows=("arcface",), margin=margin)
        assert not sync.is_recorded(of_project(root))
        with quietly():
            sync.track(root)
        found.append(recorded_ids.run_links(of_project(root), "http://here"))
    assert found[0] == found[2]
    assert found[0]["train_backbone@arcface"] != found[1]["train_backbone@arcface"]


MAKE = "from pipeline.tracking import sync; sync.initialise_store()"


@pytest.mark.slow
def test_a_database_that_was_being_made_when_its_maker_was_killed_is_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "tracking"
    folder.mkdir()
    # an earlier one that was killed
    (folder / "mlflow.db.partial").write_bytes(b"half a database")
    (folder / "mlflow.db.partial-journal").write_bytes(b"half a journal")

    def begun() -> bool:
        return any(path.read_bytes().startswith(b"SQLite format 3") for path in folder.glob("mlflow.db*"))

    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", MAKE], cwd=tmp_path, env=environment) as process:
        try:
            wait_until(begun, 60)
        finally:
            process.send_signal(signal.SIGKILL)
    assert not (folder / "mlflow.db").exists()
    subprocess.run([sys.executable, "-c", MAKE], cwd=tmp_path, env=environment, check=True, timeout=200)
    assert sorted(path.name for path in folder.glob("mlflow.db*")) == ["mlflow.db"]
    assert recorded_runs(folder / "mlflow.db") == {}
    made = (folder / "mlflow.db").stat()
    subprocess.run([sys.executable, "-c", MAKE], cwd=tmp_path, env=environment, check=True, timeout=200)
    assert (folder / "mlflow.db").stat() == made
