"""Fixtures shared by all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


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
