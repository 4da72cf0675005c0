"""Reads images of a record file by their offsets: without the index, and only the header of the requested image.

What `unpack` wrote down of a checked file is enough to find an image, so that a file of millions opens at once.

Legend: N images.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.core.recordio.framing import MAGIC, RecordError
from stages.core.recordio.header import HEADER
from stages.core.recordio.reader import RecordReader

# magic word, length word, and the flag that the header begins with: how many label numbers follow it
_BEGIN = struct.Struct("<III")
_HEAD = 8 + HEADER.size
_BLOCK = 1 << 20


class RecordImages:
    """Images by number, zero-copy, over a memory map; safe to share after a fork, reopened when unpickled.

    Args:
        path: the record file; its index is read for images in several parts and to explain damage, if it is there.
        key_N: keys of the images, as in the index.
        offset_N: where each image's record begins, in bytes.
        length_N: bytes of each image alone.

    Raises:
        FileNotFoundError: there is no such file.
        RecordError: the file is shorter than these say.
    """

    def __init__(
        self, path: Path, key_N: NDArray[np.int64], offset_N: NDArray[np.int64], length_N: NDArray[np.int64]
    ) -> None:
        self.path, self.key_N, self.offset_N, self.length_N = path, key_N, offset_N, length_N
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            n, end = _last(offset_N, length_N)
            if end > size:
                problem = f"its image should end at byte {end} or later, the file has {size}"
                raise RecordError(f"{problem}: truncated or replaced", path, int(key_N[n]), int(offset_N[n]))
            self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        self._view = memoryview(self._map)
        # scalars out of a memoryview are Python ints, three times faster than out of an array
        self._offset, self._length = offset_N.data, length_N.data

    def __len__(self) -> int:
        return len(self.key_N)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return RecordImages, (self.path, self.key_N, self.offset_N, self.length_N)

    def image_bytes(self, n: int) -> memoryview:
        """Return the stored bytes of image number ``n``; a view of the file, valid while it is held.

        Raises:
            RecordError: its record is damaged, or not the one that was written down.
        """
        offset, length = self._offset[n], self._length[n]
        magic, record_length, flag = _BEGIN.unpack_from(self._map, offset)
        begin = offset + _HEAD + 4 * flag
        # a part flag in the top bits makes the length another
        if magic == MAGIC and record_length == HEADER.size + 4 * flag + length:
            return self._view[begin : begin + length]
        return self._image_of_parts(n)

    @cached_property
    def _reader(self) -> RecordReader:
        index = self.path.with_suffix(".idx")
        return RecordReader(self.path, index if index.is_file() else None)

    def _image_of_parts(self, n: int) -> memoryview:
        key, offset = int(self.key_N[n]), self._offset[n]
        _, image = self._reader.entry(key)
        if self._reader.offset(key) != offset or len(image) != self._length[n]:
            problem = f"wanted an image of {self._length[n]} bytes, got {len(image)}: not the file that was unpacked"
            raise RecordError(problem, self.path, key, offset)
        return image


def _last(offset_N: NDArray[np.int64], length_N: NDArray[np.int64]) -> tuple[int, int]:
    """Return the image that ends last, and where at least; in blocks, because all sums would be as large as both."""
    found = (0, 0)
    for begin in range(0, len(offset_N), _BLOCK):
        end_K = offset_N[begin : begin + _BLOCK] + (length_N[begin : begin + _BLOCK] + _HEAD)
        k = int(end_K.argmax())
        found = max(found, (begin + k, int(end_K[k])), key=lambda one: one[1])
    return found


class ManyRecordImages:
    """Images of several record files under one number.

    Args:
        files: the images of each file.
        file_N: the file that each image is in; within a file they are in order.
    """

    def __init__(self, files: Sequence[RecordImages], file_N: NDArray[np.int64]) -> None:
        self.files, self.file_N = files, file_N
        within_N = np.empty_like(file_N)
        for number in range(len(files)):
            rows = np.flatnonzero(file_N == number)
            within_N[rows] = np.arange(len(rows))
        self._within_N = within_N

    def __len__(self) -> int:
        return len(self.file_N)

    def image_bytes(self, n: int) -> memoryview:
        """Return the stored bytes of image number ``n``, as `RecordImages` does."""
        return self.files[int(self.file_N[n])].image_bytes(int(self._within_N[n]))
