"""Packed test sets: the images of an official layout in one record file, by the paths that they had in its folder.

    SET/images.rec, images.idx     records as mxnet writes them, in the order of evaluation: the bytes of the files
    SET/images.parquet             a row per image: `key` of its record (-1: there is none), `path`, what is known of it
    SET/...                        the lists of the layout, at their own places

`facet pack` writes them; the readers of the layouts find their images here where these files are.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np

from stages.core.errors import InputError
from stages.core.recordio.reader import RecordReader
from stages.io import parquet, text

RECORDS, INDEX, TABLE = "images.rec", "images.idx", "images.parquet"


class PackedImages:
    """Encoded images by path, relative to the folder that was packed.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: table, index and records do not fit together.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in (RECORDS, INDEX, TABLE):
            if not (folder / name).is_file():
                raise FileNotFoundError(f"{folder / name} is missing: a packed set has {RECORDS}, {INDEX} and {TABLE}")
        table = parquet.read(folder / TABLE, {"key": "whole numbers", "path": "text"})
        self._reader = RecordReader(folder / RECORDS, folder / INDEX)
        key_N = table["key"].to_numpy()
        if not np.array_equal(np.sort(key_N[key_N >= 0]), np.sort(self._reader.keys)):
            raise InputError(f"{folder}: {TABLE} and {INDEX} have different keys: files of two packed sets are mixed")
        self._key_of: dict[str, int] = dict(zip(table["path"].to_pylist(), key_N.tolist(), strict=True))

    def read(self, path: str) -> memoryview:
        """Return the bytes of one image, a view of the file.

        Raises:
            FileNotFoundError: it was not there when the set was packed.
            ValueError: its record is damaged.
        """
        key = self._key_of.get(path, -1)
        if key < 0:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return self._reader.entry(key)[1]

    def names(self, under: str) -> list[str]:
        """Return the paths below the folder ``under``, relative to it, in the order of the table."""
        return [path.removeprefix(f"{under}/") for path in self._key_of if path.startswith(f"{under}/")]

    def sizes(self, under: str = "") -> dict[str, int]:
        """Return the bytes of each image below the folder ``under`` that has a record, by path relative to it.

        Raises:
            ValueError: a record is damaged.
        """
        paths = [path for path, key in self._key_of.items() if key >= 0 and (not under or path.startswith(f"{under}/"))]
        return {path.removeprefix(f"{under}/") if under else path: len(self.read(path)) for path in paths}


def find(folder: Path) -> PackedImages | None:
    """Return the packed images of a set, None if its images are files."""
    return PackedImages(folder) if is_packed(folder) else None


def is_packed(folder: Path) -> bool:
    """Return whether the images of a set are packed."""
    return (folder / RECORDS).is_file() or (folder / TABLE).is_file()


def read(packed: PackedImages | None, folder: Path, path: str) -> bytes | memoryview:
    """Return the bytes of an image of the set in ``folder``."""
    return text.existing(folder, path).read_bytes() if packed is None else packed.read(path)
