"""Folders that are filled once for all tests of a run, by whichever worker of pytest-xdist comes first."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

Once = Callable[[str, Callable[[Path], object]], Path]
"""Takes a name and a function that fills an empty folder; returns the full folder, which nobody may change."""


def folders(factory: pytest.TempPathFactory) -> Once:
    """Return a function that fills each named folder of this run's temporary folder once."""
    base = factory.getbasetemp()
    # each worker has a folder of its own in the run's
    home = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def once(name: str, fill: Callable[[Path], object]) -> Path:
        folder, full = home / f"once-{name}", home / f"once-{name}.full"
        with FileLock(home / f"once-{name}.lock"):
            if not full.exists():
                # what another worker left that failed half-way
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                fill(folder)
                full.touch()
        return folder

    return once
