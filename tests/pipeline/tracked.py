"""Fixtures: a real DVC repository recorded in MLflow, once for all tests; copies of it; contents of the store."""

from __future__ import annotations

import contextlib
import sqlite3
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pipeline.tracking import store, sync
from pipeline.tracking.sync import Tracked
from tests.once import Once
from tests.pipeline import small_project
from tests.pipeline.small_project import RUNS
from tests.support import Project, copy_project

TABLE_ROWS = ["ArcFace", "AdaFace"]
ALL = len(RUNS) * 2 + 1  # a row and a training of each, one report


@pytest.fixture(scope="session")
def program(once: Once) -> Path:
    return once("program", _export_mean) / "program.pt2"


def _export_mean(folder: Path) -> None:
    import torch

    from tests.pipeline.mean import Mean

    image_N3HW = torch.zeros(2, 3, 112, 112, dtype=torch.uint8)
    with quietly():
        shapes = {"image_N3HW": {0: torch.export.Dim("N", min=1)}}
        exported = torch.export.export(Mean(), (image_N3HW,), dynamic_shapes=shapes)
        torch.export.save(exported, folder / "program.pt2")


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory, program: Path) -> Project:
    """A project after one `dvc repro`; tests that share it must not change it."""
    project = small_project.make(tmp_path_factory.mktemp("recorded"), program)
    printed = project.run("dvc", "repro")
    assert f"MLflow: {ALL} recorded, 0 already there" in printed
    return project


@pytest.fixture
def unrecorded(recorded: Project, empty_store: Path, tmp_path: Path) -> Project:
    """A copy of it with an empty MLflow, and no receipt of what another has."""
    project = copy_project(recorded.path, tmp_path / "copy", empty_store)
    (project.path / "tracking/receipt.json").unlink()
    (project.path / "tracking/ids.json").unlink()
    return project


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Ignore MLflow's many warnings, which are errors here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def track(project: Project) -> Tracked:
    """Record in this process, which has imported MLflow already."""
    with quietly():
        return sync.track(project.path)


def query(project: Project, sql: str, *values: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(project.path / "tracking/mlflow.db")
    try:
        return connection.execute(sql, values).fetchall()
    finally:
        connection.close()


class RunInStore(NamedTuple):
    """One of our runs as the database has it: the IDs and what depends on them are not asked of facet."""

    status: str
    current: bool
    key: str
    where: str


_OURS = """
    SELECT mine.value, runs.status, current.value, place.value, stands.value FROM tags AS mine
    JOIN runs ON runs.run_uuid = mine.run_uuid AND runs.lifecycle_stage = 'active'
    JOIN experiment_tags AS place ON place.experiment_id = runs.experiment_id AND place.key = 'facet.key'
    LEFT JOIN tags AS current ON current.run_uuid = mine.run_uuid AND current.key = 'facet.current'
    LEFT JOIN tags AS stands ON stands.run_uuid = mine.run_uuid AND stands.key = 'facet.where'
    WHERE mine.key = 'facet.fingerprint'
"""


def recorded_runs(database: Path, has: Callable[[str], bool] = store.PROJECT.has) -> dict[str, list[RunInStore]]:
    """Return the runs of each fingerprint in experiments whose key ``has`` accepts."""
    found: dict[str, list[RunInStore]] = {}
    with contextlib.closing(sqlite3.connect(database)) as opened:
        for fingerprint, status, current, key, where in opened.execute(_OURS).fetchall():
            if has(key):
                found.setdefault(fingerprint, []).append(RunInStore(status, current == "true", key, where))
    return found


def fingerprints(project: Project) -> dict[str, list[tuple[str, str]]]:
    found = recorded_runs(project.path / "tracking/mlflow.db")
    return {one: [(run.status, str(run.current).lower()) for run in runs] for one, runs in found.items()}


def assert_one_each(project: Project, runs: int = ALL) -> None:
    found = fingerprints(project)
    assert Counter(len(alike) for alike in found.values()) == {1: runs}
    assert {alike[0][0] for alike in found.values()} == {"FINISHED"}
