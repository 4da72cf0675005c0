"""Reads ``.idx`` files: a line ``KEY<tab>OFFSET`` per record, as mxnet's MXIndexedRecordIO writes them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.core.recordio.framing import RecordError

_TAB, _NEWLINE, _ZERO, _NINE = 9, 10, 48, 57
_LINE = re.compile(rb"(-?[0-9]{1,18})\t([0-9]{1,18})")


def read_index(path: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the keys and the byte offsets, both shape (N,), in the order of the lines.

    Raises:
        FileNotFoundError: there is no such file.
        RecordError: a line that is not two whole numbers, no line at all, or a key that comes twice.
    """
    text = path.read_bytes()
    if not text.strip():
        raise RecordError("it has no line KEY<tab>OFFSET: truncated, or not an index", path)
    pair_N2 = _parse_fast(text)
    if pair_N2 is None:
        pair_N2 = _parse_lines(text, path)
    keys_N, offsets_N = np.ascontiguousarray(pair_N2[:, 0]), np.ascontiguousarray(pair_N2[:, 1])
    _refuse_repeated(keys_N, offsets_N, path)
    return keys_N, offsets_N


def _parse_fast(text: bytes) -> NDArray[np.int64] | None:
    """Return pairs, shape (N, 2), if every line is digits, tab, digits, newline; else None."""
    byte_T = np.frombuffer(text, np.uint8)
    separator_S = np.flatnonzero((byte_T < _ZERO) | (byte_T > _NINE))
    if not len(separator_S) or len(separator_S) % 2 or separator_S[-1] != len(byte_T) - 1:
        return None
    if (byte_T[separator_S[0::2]] != _TAB).any() or (byte_T[separator_S[1::2]] != _NEWLINE).any():
        return None
    width_S = np.diff(separator_S, prepend=-1) - 1
    if width_S.min() < 1 or width_S.max() > 18:
        return None
    return np.fromstring(text.decode("ascii"), np.int64, sep=" ").reshape(-1, 2)


def _parse_lines(text: bytes, path: Path) -> NDArray[np.int64]:
    """Return pairs, shape (N, 2), line by line: for unusual but valid lines (negative keys) and for errors."""
    pairs = []
    for number, line in enumerate(text.splitlines(), start=1):
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise RecordError(
                f"line {number}: wanted KEY<tab>OFFSET, two whole numbers, got {line[:60]!r}", path
            )
        pairs.append((int(match[1]), int(match[2])))
    return np.array(pairs, np.int64)


def _refuse_repeated(keys_N: NDArray[np.int64], offsets_N: NDArray[np.int64], path: Path) -> None:
    if (keys_N[1:] > keys_N[:-1]).all():
        return
    order_N = np.argsort(keys_N, kind="stable")
    repeated = np.flatnonzero(np.diff(keys_N[order_N]) == 0)
    if len(repeated):
        first, second = (int(order_N[repeated[0] + step]) for step in (0, 1))
        raise RecordError(
            f"its key is repeated, on lines {first + 1} and {second + 1} (byte {int(offsets_N[second])})",
            path,
            int(keys_N[first]),
            int(offsets_N[first]),
        )
