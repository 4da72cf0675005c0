"""Positions of a training set's records, in memory once per machine: its processes map one file of them.

The manifest is compressed, so that each process would decompress it into memory of its own: 1.4 GB for 42 million
records. The first process writes the columns as plain arrays under .facet/positions/DATASET/DIGEST; all map them, and
the kernel keeps one copy.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.runtime import artifacts, locks

Columns = Mapping[str, NDArray[np.int64]]


def shared(dataset: str, digest: str, read: Callable[[], Columns]) -> Columns:
    """Return the columns of a manifest as maps of files, which the first process to come here writes.

    Args:
        dataset: its name.
        digest: of the manifest.
        read: returns the columns.

    Raises:
        OSError: they cannot be written.
    """
    folder = artifacts.STATE / "positions" / dataset / digest
    with locks.held(folder.parent / "lock"):
        if not folder.is_dir():
            _write(folder, read())
    return {path.stem: _mapped(path) for path in sorted(folder.glob("*.npy"))}


def _write(folder: Path, columns: Columns) -> None:
    for other in folder.parent.iterdir():
        if other.is_dir():  # of a manifest that there is no more, or cut short
            shutil.rmtree(other)
    with artifacts.write_folder(folder) as aside:
        for name, column_N in columns.items():
            np.save(aside / f"{name}.npy", column_N)


def _mapped(path: Path) -> NDArray[np.int64]:
    # a plain array over the map: numpy's own class costs time with every item
    return np.load(path, mmap_mode="r").view(np.ndarray)  # type: ignore[no-any-return]
