"""Fixtures: a real DVC repository recorded in MLflow, once for all tests; copies of it; contents of the store."""

from __future__ import annotations

import contextlib
import sqlite3
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
    assert f"MLflow: {ALL} recorded, 0 were there" in printed
    return project


@pytest.fixture
def unrecorded(recorded: Project, empty_store: Path, tmp_path: Path) -> Project:
    """A copy of it with an empty MLflow, and no receipt of what another has."""
    project = copy_project(recorded.path, tmp_path / "copy", empty_store)
    (project.path / "tracking/receipt.json").unlink()
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


def fingerprints(project: Project) -> dict[str, list[tuple[str, str]]]:
    found = store.recorded(f"sqlite:///{project.path / 'tracking/mlflow.db'}")
    assert found is not None
    return {one: [(run.status, str(run.current).lower()) for run in runs] for one, runs in found.items()}


def assert_one_each(project: Project, runs: int = ALL) -> None:
    found = fingerprints(project)
    assert Counter(len(alike) for alike in found.values()) == {1: runs}
    assert {alike[0][0] for alike in found.values()} == {"FINISHED"}
