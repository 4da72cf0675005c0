"""Fixtures shared by all tests."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import ROOT, TINY_PROFILE, Project


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
        path = tmp_path_factory.mktemp("project")
        for name in ("stages", "pipeline", "graph", "profiles", "tables"):
            shutil.copytree(ROOT / name, path / name, ignore=shutil.ignore_patterns("__pycache__", ".gitignore", "dvc.lock"))
        for name in ("dvc.yaml", "params.yaml", ".gitignore", ".dvcignore"):
            shutil.copy(ROOT / name, path / name)
        project = Project(path)
        (path / "profiles/tiny.yaml").write_text(TINY_PROFILE)
        project.edit("params.yaml", {
            "profile": "tiny",
            "embedded": {"demo": {
                "train": {"identities": 8, "images_per_identity": 4},
                "eval": {"identities": 20, "pairs": 20, "ijb_templates": 20, "tinyface_distractors": 4},
            }},
        })
        project.run("git", "init", "-q")
        project.run("dvc", "init", "-q")
        project.run("dvc", "config", "core.analytics", "false")
        project.run("git", "add", "-A")
        project.run("git", "commit", "-qm", "start")
        return project

    return make


@pytest.fixture(scope="session")
def reproduced(make_project: Callable[[], Project]) -> Project:
    """A project after one plain ``dvc repro``; tests that share it leave it as reproduced as they found it."""
    project = make_project()
    project.run("dvc", "repro", FACET_IMPORTS_FOLDER=str(project.path / ".facet/imports"))
    return project
