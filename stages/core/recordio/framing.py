"""Framing of records in a RecordIO file (dmlc-core, recordio.h): magic word, length word, payload, zeros.

A payload is cut wherever the magic word stands at an aligned position, so in a whole file the magic word is
found at aligned positions where a part begins and nowhere else. `scan_parts` turns that into a check of
every word of the file. Payload bits have no checksum, and a length that grew into its zero padding is sound
too: no reader can see these.

Legend: P parts found in one stretch of the file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import InputError

MAGIC = 0xCED7230A
MAGIC_BYTES = struct.pack("<I", MAGIC)
LENGTH_BITS = 29
LENGTH_LIMIT = 1 << LENGTH_BITS
WHOLE, FIRST, MIDDLE, LAST = range(4)
PART_HEAD = struct.Struct("<II")

# 64 MiB of words at a time: the comparison then needs 16 MiB, whatever the file's size
STRETCH_WORDS = 1 << 24


class RecordError(InputError):
    """A damaged record file: names file, record (its key; without an index its ordinal) and byte."""

    def __init__(
        self, problem: str, path: Path | None = None, record: int | None = None, offset: int | None = None
    ) -> None:
        super().__init__(problem, path, record, offset)
        self.problem, self.path, self.record, self.offset = problem, path, record, offset

    def __str__(self) -> str:
        where = "" if self.path is None else f"{self.path}: "
        if self.record is not None:
            where += f"record {self.record}"
            where += ": " if self.offset is None else f" at byte {self.offset}: "
        return where + self.problem


class Parts(NamedTuple):
    """Parts in file order: offset (magic word), position in the record, and bytes."""

    offset_P: NDArray[np.int64]
    kind_P: NDArray[np.int64]
    length_P: NDArray[np.int64]


def padded(length: int) -> int:
    """Return the length with its padding: the next multiple of 4."""
    return (length + 3) & ~3


def frame(payload: bytes | memoryview) -> bytes:
    """Return a payload as it stands in a file: one part, or several if the magic word is inside at an
    aligned position.

    Raises:
        ValueError: 2**29 bytes or more, which the length word cannot say.

    >>> frame(b"abcde").hex(" ", 4)
    '0a23d7ce 05000000 61626364 65000000'
    """
    data = payload if isinstance(payload, bytes) else bytes(payload)
    if len(data) >= LENGTH_LIMIT:
        raise InputError(f"a record must be shorter than {LENGTH_LIMIT} bytes, got {len(data)}: split it")
    chunks: list[bytes] = []
    begin = 0
    for cut in _aligned_magic(data):
        kind = MIDDLE if begin else FIRST
        chunks += [PART_HEAD.pack(MAGIC, kind << LENGTH_BITS | cut - begin), data[begin:cut]]
        begin = cut + 4
    kind, length = (LAST if begin else WHOLE), len(data) - begin
    padding = bytes(padded(length) - length)
    chunks += [PART_HEAD.pack(MAGIC, kind << LENGTH_BITS | length), data[begin:] if begin else data, padding]
    return b"".join(chunks)


def _aligned_magic(data: bytes) -> Iterator[int]:
    position = data.find(MAGIC_BYTES)
    while position >= 0:
        if position % 4 == 0:
            yield position
        position = data.find(MAGIC_BYTES, position + 1)


@dataclass
class _Chain:
    """How far a file has been followed."""

    path: Path
    size: int
    expected: int = 0  # where the next part should begin
    inside: bool = False  # the last part says that others follow
    record: int = -1  # ordinal of the last record begun
    begin: int = 0  # where it begins

    def advance(self, parts: Parts, end_P: NDArray[np.int64]) -> None:
        starts_P = parts.offset_P[parts.kind_P <= FIRST]
        if len(starts_P):
            self.record, self.begin = self.record + len(starts_P), int(starts_P[-1])
        self.expected, self.inside = int(end_P[-1]), bool(parts.kind_P[-1] in (FIRST, MIDDLE))

    def error(self, problem: str, of_next: bool = True) -> RecordError:
        """Return an error about the open record or, if none is open, the next or the last one."""
        if of_next and not self.inside:
            return RecordError(problem, self.path, self.record + 1, self.expected)
        return RecordError(problem, self.path, self.record, self.begin)


def scan_parts(words: NDArray[np.uint32], size: int, path: Path) -> Iterator[Parts]:
    """Yield all parts of a file, block by block, each checked against the one before it.

    Args:
        words: the file as little-endian words, shape (size // 4,).
        size: the file's length in bytes.
        path: for messages.

    Raises:
        RecordError: bytes that belong to no part, a part that begins inside another, parts out of order,
            padding that is not zero, a file that ends inside a record. The sound parts before the damage are
            yielded first.
    """
    chain = _Chain(path, size)
    for begin in range(0, len(words), STRETCH_WORDS):
        hit_P = begin + np.flatnonzero(words[begin : begin + STRETCH_WORDS] == MAGIC)
        if not len(hit_P):
            continue
        parts, end_P = _parts_at(words, hit_P)
        wrong_P = _wrong(words, parts, end_P, chain)
        sound = int(np.argmax(wrong_P)) if wrong_P.any() else len(hit_P)
        if sound:
            good = Parts(*(values[:sound] for values in parts))
            chain.advance(good, end_P[:sound])
            yield good
        if sound < len(hit_P):
            raise _explain(words, int(parts.offset_P[sound]), chain)
    if chain.expected != size or chain.inside:
        raise _explain(words, size, chain)


def _parts_at(words: NDArray[np.uint32], hit_P: NDArray[np.int64]) -> tuple[Parts, NDArray[np.int64]]:
    """Return the parts at magic words, and the end that each declares."""
    # a file cut short may end with a magic word: its length is then read as 0, its end is beyond the file
    word_P = np.where(hit_P + 1 < len(words), words[np.minimum(hit_P + 1, len(words) - 1)], 0).astype(
        np.int64
    )
    parts = Parts(hit_P * 4, word_P >> LENGTH_BITS, word_P & (LENGTH_LIMIT - 1))
    return parts, parts.offset_P + 8 + ((parts.length_P + 3) & ~3)


def _wrong(
    words: NDArray[np.uint32], parts: Parts, end_P: NDArray[np.int64], chain: _Chain
) -> NDArray[np.bool_]:
    """Return for each part whether it, or the gap before it, is damaged."""
    begins_P = np.concatenate(([chain.expected], end_P[:-1]))
    others_follow_P = (parts.kind_P == FIRST) | (parts.kind_P == MIDDLE)
    inside_P = np.concatenate(([chain.inside], others_follow_P[:-1]))
    wrong_P: NDArray[np.bool_] = (parts.offset_P != begins_P) | (parts.kind_P > LAST) | (end_P > chain.size)
    wrong_P |= inside_P != (parts.kind_P >= MIDDLE)
    spare_P = parts.length_P % 4
    tail_P = words[np.clip(end_P // 4 - 1, 0, len(words) - 1)].astype(np.int64)
    unclean_P = (spare_P != 0) & ((tail_P >> (8 * spare_P)) != 0)
    wrong_P |= unclean_P | (others_follow_P & (spare_P != 0))
    return wrong_P


def _explain(words: NDArray[np.uint32], found: int, chain: _Chain) -> RecordError:
    """Return the error for damage: a part was expected at ``chain.expected``, the next is at ``found``."""
    if found < chain.expected:
        return chain.error(
            f"its length reaches to byte {chain.expected}, but a part begins at byte {found}: damaged length",
            False,
        )
    if chain.expected == chain.size:
        return chain.error("the file ends before the last part of this record: truncated")
    return chain.error(part_problem(words, chain.expected, chain.size, chain.inside))


def part_problem(words: NDArray[np.uint32], offset: int, size: int, inside: bool) -> str:
    """Return what is wrong with the part at ``offset``, or nothing.

    Args:
        words: the file as little-endian words.
        offset: where the part should begin, in bytes, a multiple of 4.
        size: the file's length in bytes.
        inside: a record was begun before and not ended.
    """
    if offset + 8 > size:
        return f"the file ends at byte {size}, inside the header of a part: truncated"
    magic, word = int(words[offset // 4]), int(words[offset // 4 + 1])
    kind, length = divmod(word, LENGTH_LIMIT)
    end = offset + 8 + padded(length)
    if magic != MAGIC:
        return f"wanted {MAGIC:#010x} at byte {offset}, got {magic:#010x}: damaged, or no record begins here"
    if inside != (kind in (MIDDLE, LAST)) or kind > LAST:
        wanted = "2 or 3, for a later part of a record" if inside else "0 or 1, where a record begins"
        return f"wanted part flag {wanted}, got {kind} at byte {offset}: damaged header, or a part is missing"
    if end > size:
        return f"{length} bytes should follow byte {offset + 8}, the file ends at {size}: truncated?"
    if length % 4 and kind in (FIRST, MIDDLE):
        return f"the part at byte {offset} has {length} bytes, before another a multiple of 4: damaged length"
    if length % 4 and int(words[end // 4 - 1]) >> 8 * (length % 4):
        return f"the padding before byte {end} is not zero: damaged length or padding"
    return ""
