"""Fixtures shared by all tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import support
from tests.support import ROOT, Project


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with golden data and real faces that stands beside a developer's checkout."""
    path = ROOT.parent / "shared"
    if not path.is_dir():
        pytest.skip(f"no golden data or real faces: {path.name}/ is not beside the checkout")
    return path


@pytest.fixture(scope="session")
def golden(shared: Path) -> Path:
    """Numbers made by the authors' own code."""
    return shared / "golden"


@pytest.fixture(scope="session")
def faces(shared: Path) -> Path:
    """Real faces in the official layouts."""
    return shared / "faces"


@pytest.fixture(scope="session")
def make_project(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Project]:
    """Make a fresh project: committed to git, nothing run yet."""

    def make() -> Project:
        return support.make_project(tmp_path_factory.mktemp("project"))

    return make


@pytest.fixture(scope="session")
def reproduced(make_project: Callable[[], Project]) -> Project:
    """A project after one plain ``dvc repro``; tests that share it leave it as reproduced as they found it."""
    project = make_project()
    project.run("dvc", "repro", FACET_IMPORTS_FOLDER=str(project.path / ".facet/imports"))
    return project
