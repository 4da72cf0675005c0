"""RecordIO without mxnet: reads over a memory map, writes byte for byte what mxnet 1.9.1 writes
(python/mxnet/recordio.py).

An index must name every record of its file, so that a file or an index cut short is an error and not a
smaller data set. What cannot be seen: bits of a payload have no checksum, and a length that grew by up to 3
bytes into its zero padding. A file cut short by another process *while* it is mapped ends this one (SIGBUS),
as with every memory map.

Legend: N records.
"""

from __future__ import annotations

import bisect
import mmap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stages.core.errors import UnknownNameError
from stages.core.recordio.framing import (
    FIRST,
    LAST,
    LENGTH_LIMIT,
    MAGIC,
    MAGIC_BYTES,
    MIDDLE,
    PART_HEAD,
    WHOLE,
    Parts,
    RecordError,
    frame,
    padded,
    part_problem,
    scan_parts,
)
from stages.core.recordio.header import HEADER, Header, pack, unpack
from stages.core.recordio.index import read_index
from stages.core.recordio.writer import RecordWriter

__all__ = ["Header", "RecordError", "RecordReader", "RecordWriter", "frame", "pack", "unpack"]

# words from where a record begins to its label, and to the first number of a vector label
_LABEL_WORD, _VECTOR_WORD = 3, 8


class RecordReader:
    """Random access by key, zero-copy, over a memory map.

    Safe to share after a fork; opened anew where it is unpickled. Without an index the file is scanned once,
    and the keys are ordinals; that it was cut short between two records can then not be told.

    Raises:
        FileNotFoundError: a file is missing.
        RecordError: the index does not fit the file, or (no index) the file is damaged.
    """

    keys: NDArray[np.int64]  # shape (N,), in the order of the index

    def __init__(self, rec_path: Path | str, idx_path: Path | str | None = None) -> None:
        self.rec_path, self.idx_path = Path(rec_path), None if idx_path is None else Path(idx_path)
        with self.rec_path.open("rb") as stream:
            self._size = stream.seek(0, 2)
            if not self._size:
                raise RecordError("the file is empty", self.rec_path)
            self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        self._view = memoryview(self._map)
        self._words = np.frombuffer(self._map, "<u4", self._size // 4)
        if self.idx_path is None:
            starts = [parts.offset_P[parts.kind_P <= FIRST] for parts in self._parts()]
            offset_N = np.concatenate(starts)
            self.keys = np.arange(len(offset_N), dtype=np.int64)
        else:
            self.keys, offset_N = read_index(self.idx_path)
        self._place(offset_N)

    def _place(self, offset_N: NDArray[np.int64]) -> None:
        """Store the bounds of each record; check that they cover the whole file."""
        order_N = np.argsort(offset_N, kind="stable")
        end_N = np.empty_like(offset_N)
        end_N[order_N] = np.append(offset_N[order_N[1:]], self._size)
        for wrong_N in ((offset_N % 4 != 0) | (offset_N + 8 > self._size), end_N - offset_N < 8):
            if wrong_N.any():
                raise self._misplaced(int(np.argmax(wrong_N)), offset_N, end_N)
        self.offsets, self._end_N = offset_N, end_N
        # scalars out of a memoryview are Python ints, three times faster than out of an array
        self._offset, self._end = offset_N.data, end_N.data
        self._first = int(self.keys[0])
        self._contiguous = bool((self.keys == np.arange(self._first, self._first + len(self.keys))).all())
        self._order_N = np.arange(0) if self._contiguous else np.argsort(self.keys, kind="stable")
        self._sorted = self.keys[self._order_N].data
        if offset_N[order_N[0]] != 0:
            raise self._error(int(order_N[0]), "no record is indexed before it: the index lacks entries")
        if self._size % 4:
            raise self._error(
                int(order_N[-1]), f"the file ends at byte {self._size}, no multiple of 4: truncated"
            )
        self._payload(int(order_N[-1]))

    def _misplaced(self, i: int, offset_N: NDArray[np.int64], end_N: NDArray[np.int64]) -> RecordError:
        offset, end = int(offset_N[i]), int(end_N[i])
        if offset % 4:
            problem = "records begin at multiples of 4: damaged index"
        elif offset + 8 > self._size:
            problem = (
                f"the file has only {self._size} bytes: it is truncated, or the index belongs to another file"
            )
        else:
            problem = f"the next record is indexed at byte {end}: an entry is repeated or damaged"
        return RecordError(problem, self.rec_path, int(self.keys[i]), offset)

    def __len__(self) -> int:
        return len(self.keys)

    def __contains__(self, key: int) -> bool:
        return self._find(key) >= 0

    def __reduce__(self) -> tuple[type[RecordReader], tuple[Path, Path | None]]:
        return RecordReader, (self.rec_path, self.idx_path)

    def read(self, key: int) -> memoryview:
        """Return a record's payload: a view of the file, or a copy if the record has several parts.

        Raises:
            LookupError: no such key.
            RecordError: this record is damaged, or the index lacks the record after it.
        """
        return self._payload(self._position(key))

    def offset(self, key: int) -> int:
        """Return the offset of a record in bytes: that of its magic word."""
        return self._offset[self._position(key)]

    def entry(self, key: int) -> tuple[Header, memoryview]:
        """Return header and image bytes of a record, `unpack`-ed; errors name the record."""
        i = self._position(key)
        try:
            return unpack(self._payload(i))
        except RecordError as error:
            raise error if error.path else self._error(i, error.problem) from None

    def scan(self) -> Iterator[tuple[int, memoryview]]:
        """Yield offset and payload of every record in file order; the index, if any, is not used.

        Raises:
            RecordError: at the first damage, after the sound records before it.
        """
        begin, pieces = 0, list[memoryview | bytes]()
        for parts in self._parts():
            for offset, kind, length in zip(*(values.tolist() for values in parts), strict=True):
                piece = self._view[offset + 8 : offset + 8 + length]
                if kind == WHOLE:
                    yield offset, piece
                elif kind == FIRST:
                    begin, pieces = offset, [piece]
                else:
                    pieces += [MAGIC_BYTES, piece]
                    if kind == LAST:
                        yield begin, memoryview(b"".join(pieces))

    def labels(self, keys: ArrayLike | None = None, column: int = 0) -> NDArray[np.float32]:
        """Return one label number of every record, or of ``keys``, shape (N,), without reading the images.

        Args:
            keys: which records; None: all, in the order of ``self.keys``.
            column: which number of a vector label; a scalar label has only column 0.

        Raises:
            LookupError: no such key.
            RecordError: the first record (in the order asked for) that is damaged or has no such label.
        """
        i_N = None if keys is None else self._positions(np.asarray(keys, np.int64))
        offset_N, end_N = (
            (self.offsets, self._end_N) if i_N is None else (self.offsets[i_N], self._end_N[i_N])
        )
        word_N = offset_N // 4
        room_N = end_N - offset_N >= 8 + HEADER.size
        flag_N = self._words[np.where(room_N, word_N + 2, 0)].astype(np.int64)
        length_N = self._words[word_N + 1].astype(np.int64)
        plain_N = room_N & (self._words[word_N] == MAGIC) & (length_N < LENGTH_LIMIT)
        plain_N &= offset_N + 8 + ((length_N + 3) & ~3) == end_N
        plain_N &= (HEADER.size + 4 * flag_N <= length_N) & (column < np.maximum(flag_N, 1))
        at_N = np.where(flag_N > 0, word_N + _VECTOR_WORD + column, word_N + _LABEL_WORD)
        label_N = self._words[np.where(plain_N, at_N, 0)].view("<f4")
        for n in np.flatnonzero(~plain_N).tolist():
            label_N[n] = self._label_slowly(n if i_N is None else int(i_N[n]), column)
        return label_N

    def _label_slowly(self, i: int, column: int) -> float:
        """Return the label of a record in several parts; raise the error of a damaged one."""
        header, _ = self.entry(int(self.keys[i]))
        label_F = np.atleast_1d(np.asarray(header.label, np.float32))
        if column >= len(label_F):
            raise self._error(i, f"wanted label number {column}, got a label of {len(label_F)} numbers")
        return float(label_F[column])

    def _find(self, key: int) -> int:
        """Return the row of a key, -1 if there is none."""
        if self._contiguous:
            i = key - self._first
            return i if 0 <= i < len(self._offset) else -1
        i = bisect.bisect_left(self._sorted, key)
        return int(self._order_N[i]) if i < len(self._sorted) and self._sorted[i] == key else -1

    def _position(self, key: int) -> int:
        i = self._find(key)
        if i < 0:
            raise UnknownNameError(
                f"{self.rec_path}: no record with key {key}: there are {len(self.keys)}, "
                f"from {self.keys.min()} to {self.keys.max()}"
            )
        return i

    def _positions(self, keys_N: NDArray[np.int64]) -> NDArray[np.int64]:
        if self._contiguous:
            i_N = keys_N - self._first
            known_N = (i_N >= 0) & (i_N < len(self.keys))
        else:
            sorted_N = np.asarray(self._sorted)
            at_N = np.minimum(np.searchsorted(sorted_N, keys_N), len(sorted_N) - 1)
            known_N, i_N = sorted_N[at_N] == keys_N, self._order_N[at_N]
        if not known_N.all():
            self._position(int(keys_N[np.argmin(known_N)]))
        return i_N

    def _payload(self, i: int) -> memoryview:
        offset, end = self._offset[i], self._end[i]
        magic, length = PART_HEAD.unpack_from(self._map, offset)
        begin = offset + 8
        stop = begin + length
        # a part flag in the top bits makes the length too long to fit
        if magic == MAGIC and end - 3 <= stop <= end and (stop == end or not any(self._map[stop:end])):
            return self._view[begin:stop]
        return self._payload_in_parts(i, offset, end)

    def _payload_in_parts(self, i: int, offset: int, end: int) -> memoryview:
        """Return the joined parts of a record, or raise what is wrong with it."""
        pieces = list[memoryview | bytes]()
        kind = WHOLE
        while offset < end and kind != LAST:
            problem = part_problem(self._words, offset, self._size, bool(pieces))
            if problem:
                raise self._error(i, problem)
            kind, length = divmod(int(self._words[offset // 4 + 1]), LENGTH_LIMIT)
            pieces += [MAGIC_BYTES, self._view[offset + 8 : offset + 8 + length]]
            offset += 8 + padded(length)
            if kind == WHOLE:
                break
        if offset != end:
            problem = (
                f"it ends at byte {offset}, but the next is indexed at byte {end}: damaged length or index"
            )
            raise self._error(i, problem)
        if kind in (FIRST, MIDDLE):
            raise self._error(i, "its last part is missing")
        return memoryview(b"".join(pieces[1:]))

    def _parts(self) -> Iterator[Parts]:
        return scan_parts(self._words, self._size, self.rec_path)

    def _error(self, i: int, problem: str) -> RecordError:
        return RecordError(problem, self.rec_path, int(self.keys[i]), self._offset[i])
