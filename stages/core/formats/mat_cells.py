"""Reads lists of names and numbers from a MATLAB 5 file, as far as TinyFace's ``.mat`` files need.

``scipy.io.loadmat`` trusts sizes that a file states and may end the process on a damaged one, so every number
here is checked against the bytes there are. Layout: "MATLAB MAT-File Format", MathWorks, chapter 1. Elements
are a tag (type, size) and data padded to 8 bytes; a tag of one word holds up to 4 bytes itself.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from stages.core.errors import InputError

HEADER_BYTES = 128
LARGEST = 1 << 28  # bytes that a compressed variable may unfold to: TinyFace's lists are below a megabyte

_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_CELL, _CHAR = 1, 4
_NUMERIC = range(6, 16)  # classes double, single and the whole numbers


@dataclass(frozen=True)
class _Stream:
    data: memoryview
    order: str  # "<" or ">"

    def word(self, at: int) -> int:
        return int(np.frombuffer(self.data[at : at + 4], f"{self.order}u4")[0])


def read_lists(data: bytes, wanted: frozenset[str]) -> dict[str, list[str] | list[float]]:
    """Return the variables named in ``wanted``: cells of text as strings, numbers as floats, column by column.

    Args:
        data: a whole file.
        wanted: names; variables of other names are passed over unread.

    Raises:
        ValueError: not a MATLAB 5 file, cut short or damaged, a wanted variable is neither cells of text nor
            real numbers, or is not there.
    """
    if len(data) < HEADER_BYTES or data[126:128] not in (b"IM", b"MI"):
        raise InputError(f"not a MATLAB 5 file ({len(data)} bytes): its header should end in IM or MI")
    stream = _Stream(memoryview(data), "<" if data[126:128] == b"IM" else ">")
    found: dict[str, list[str] | list[float]] = {}
    for kind, content in _elements(stream, HEADER_BYTES):
        matrix = _unfold(content, stream.order) if kind == _COMPRESSED else content
        if kind not in (_MATRIX, _COMPRESSED):
            raise InputError(f"expected a variable, found an element of type {kind}")
        name, klass, parts = _open_matrix(matrix)
        if name in wanted:
            found[name] = _texts(parts) if klass == _CELL else _numbers(name, klass, parts)
    if wanted - set(found):
        raise InputError(f"it holds no {', '.join(sorted(wanted - set(found)))}")
    return found


def _elements(stream: _Stream, begin: int) -> Iterator[tuple[int, _Stream]]:
    """Yield type and content of each element; every size is checked against the remaining bytes."""
    at = begin
    while at < len(stream.data):
        if len(stream.data) - at < 8:
            raise InputError("it ends inside a tag")
        first = stream.word(at)
        kind, small = first & 0xFFFF, first >> 16
        size, start = (small, at + 4) if small else (stream.word(at + 4), at + 8)
        kind = kind if small else first
        if small > 4 or size > len(stream.data) - start:
            raise InputError(f"an element says it has {size} bytes, {len(stream.data) - start} are left")
        yield kind, _Stream(stream.data[start : start + size], stream.order)
        # compressed variables alone are not padded
        at = at + 8 if small else start + size + (0 if kind == _COMPRESSED else -size % 8)


def _unfold(stream: _Stream, order: str) -> _Stream:
    unfolder = zlib.decompressobj()
    try:
        data = unfolder.decompress(bytes(stream.data), LARGEST)
    except zlib.error as error:
        raise InputError(f"a compressed variable is damaged: {error}") from error
    if not unfolder.eof:
        raise InputError(f"a compressed variable is cut short, or larger than {LARGEST} bytes")
    kind, content = next(_elements(_Stream(memoryview(data), order), 0), (0, stream))
    if kind != _MATRIX:
        raise InputError(f"a compressed variable holds an element of type {kind}")
    return content


def _open_matrix(stream: _Stream) -> tuple[str, int, list[tuple[int, _Stream]]]:
    """Return a variable's name, its class and the elements after its name."""
    parts = list(_elements(stream, 0))
    if len(parts) < 3 or len(parts[0][1].data) != 8:
        raise InputError("a variable lacks its flags, size or name")
    flags = parts[0][1].word(0)
    if flags & 0x0800:
        raise InputError("a variable holds complex numbers")
    return bytes(parts[2][1].data).decode("latin-1"), flags & 0xFF, parts[3:]


def _texts(parts: list[tuple[int, _Stream]]) -> list[str]:
    texts = []
    for kind, content in parts:
        if kind != _MATRIX:
            raise InputError(f"a cell holds an element of type {kind}")
        _, klass, inner = _open_matrix(content)
        if klass != _CHAR or (inner and inner[0][0] not in _TEXTS):
            raise InputError(f"a cell should hold text, it is of class {klass}")
        texts.append(_text(*inner[0]) if inner else "")
    return texts


def _text(kind: int, content: _Stream) -> str:
    encoding = _TEXTS[kind]
    if encoding in ("utf-16", "utf-32"):
        encoding += "-le" if content.order == "<" else "-be"
    try:
        return bytes(content.data).decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(f"a cell's text cannot be read: {error}") from error


def _numbers(name: str, klass: int, parts: list[tuple[int, _Stream]]) -> list[float]:
    if klass not in _NUMERIC or len(parts) != 1 or parts[0][0] not in _NUMBERS:
        raise InputError(f"{name} should hold text cells or numbers, it is of class {klass}")
    kind, content = parts[0]
    dtype = np.dtype(content.order + _NUMBERS[kind])
    if len(content.data) % dtype.itemsize:
        raise InputError(f"{name} ends inside a number")
    values: list[float] = np.frombuffer(content.data, dtype).astype(np.float64).tolist()
    return values
