"""Reads the ground truth of synthetic test sets (``truth.parquet``): quality and identity of each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.core.errors import InputError
from stages.io import parquet
from stages.io.parquet import Kind

FILE = "truth.parquet"
COLUMNS: Mapping[str, Kind] = {"set": "text", "image": "text", "quality": "numbers"}


def load(path: Path, name: str, num_images: int) -> NDArray[np.float64] | None:
    """Return the known quality of each image of a ``.bin`` set, in [0, 1]; None if the table lacks it.

    Args:
        path: a table with a row per image: ``set``, ``image`` (its index in the file, as text), ``quality``,
            and more.
        name: as in ``NAME.bin``.
        num_images: how many the file holds: the table must tell each once.

    Raises:
        ValueError: a column is missing, an image is missing, unknown or listed twice, or a quality is outside
            [0, 1].
    """
    rows = _rows(path, name)
    if rows.empty:
        return None
    wanted = [str(index) for index in range(num_images)]
    odd = sorted(set(rows.index) ^ set(wanted))
    if odd:
        raise InputError(f"{path}, set {name}: images 0 to {num_images - 1} should be listed once each; see {odd[:3]}")
    return _checked(rows.loc[wanted, "quality"], f"{path}, set {name}")


def load_named(path: Path, name: str, images: Sequence[str]) -> NDArray[np.float64] | None:
    """Return the known quality of named images of a set, in their order; None if the table lacks the set.

    Raises:
        ValueError: as ``load``; images that the table has besides are no error.
    """
    rows = _rows(path, name)
    if rows.empty:
        return None
    _refuse_missing(path, name, rows, images, "quality")
    return _checked(rows.loc[list(images), "quality"], f"{path}, set {name}")


def people(path: Path, name: str, images: Sequence[str]) -> NDArray[np.int64] | None:
    """Return the person on each image of a set, as any whole number; None if the table lacks set or column.

    Args:
        path: as in ``load``.
        name: of the set.
        images: names; of a ``.bin`` set, indices as text.
    """
    if "identity" not in parquet.names(path):
        return None
    rows = _rows(path, name, {"set": "text", "image": "text", "identity": "whole numbers"})
    if rows.empty:
        return None
    _refuse_missing(path, name, rows, images, "person")
    identity_N: NDArray[np.int64] = rows.loc[list(images), "identity"].to_numpy(dtype=np.int64)
    return identity_N


def _rows(path: Path, name: str, columns: Mapping[str, Kind] = COLUMNS) -> pd.DataFrame:
    """Return the rows of a set by image."""
    table = parquet.read_frame(path, columns)
    rows = table[table["set"] == name].set_index("image")
    twice = sorted(rows.index[rows.index.duplicated()])
    if twice:
        raise InputError(f"{path}, set {name}: images should be listed once each; see {twice[:3]}")
    return rows


def _refuse_missing(path: Path, name: str, rows: pd.DataFrame, images: Sequence[str], what: str) -> None:
    missing = sorted(set(images) - set(rows.index))
    if missing:
        raise InputError(f"{path}, set {name}: no {what} of {len(missing)} images; see {missing[:3]}")


def _checked(quality: pd.Series[float], where: str) -> NDArray[np.float64]:
    quality_N: NDArray[np.float64] = quality.to_numpy(dtype=np.float64)
    if not ((quality_N >= 0) & (quality_N <= 1)).all():
        raise InputError(f"{where}: qualities should lie in [0, 1], got {np.sort(quality_N)[[0, -1]]}")
    return quality_N
