"""Reads the quality that each image of the embedded test sets was drawn with (``truth.parquet``)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

COLUMNS = ("set", "image", "quality")


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
    try:
        table = pd.read_parquet(path, columns=list(COLUMNS))
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"{path} should be a Parquet table with the columns {', '.join(COLUMNS)}: {error}") from error
    rows = table[table["set"] == name]
    if rows.empty:
        return None
    wanted = pd.Index([str(index) for index in range(num_images)])
    images = rows["image"].astype(str)
    odd = sorted(set(images) ^ set(wanted)) or sorted(images[images.duplicated()])
    if odd:
        raise ValueError(f"{path}, set {name}: images 0 to {num_images - 1} should be listed once each; see {odd[:3]}")
    quality_N: NDArray[np.float64] = rows.set_index("image").loc[wanted, "quality"].to_numpy(dtype=np.float64)
    if not ((quality_N >= 0) & (quality_N <= 1)).all():
        raise ValueError(f"{path}, set {name}: qualities should lie in [0, 1], got {np.sort(quality_N)[[0, -1]]}")
    return quality_N
