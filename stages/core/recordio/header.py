"""The header before the image in a payload: struct ``IfQQ``, 24 bytes (mxnet, recordio.py)."""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import InputError
from stages.core.recordio.framing import RecordError

HEADER = struct.Struct("<IfQQ")


class Header(NamedTuple):
    """Header of an image: ``label`` is a number if ``flag`` is 0, else ``flag`` float32 numbers."""

    flag: int
    label: float | NDArray[np.float32]
    id: int
    id2: int


def pack(header: Header, image: bytes | memoryview) -> bytes:
    """Return a payload as ``mxnet.recordio.pack`` does: a number as label sets flag 0, an array its length.

    >>> pack(Header(0, 2.0, 7, 0), b"image").hex(" ", -4)
    '00000000 00000040 07000000 00000000 00000000 00000000 696d6167 65'
    """
    if isinstance(header.label, (int, float)):
        return HEADER.pack(0, header.label, header.id, header.id2) + image
    label_F = np.asarray(header.label, "<f4").ravel()
    if not len(label_F):
        raise InputError("a vector label needs at least one number, got none")
    return HEADER.pack(len(label_F), 0.0, header.id, header.id2) + label_F.tobytes() + image


def unpack(payload: bytes | memoryview) -> tuple[Header, memoryview]:
    """Return header and image bytes; both are views of ``payload``.

    Raises:
        RecordError: shorter than the header it should begin with.
    """
    view = memoryview(payload)
    if len(view) < HEADER.size:
        raise RecordError(
            f"wanted a header of {HEADER.size} bytes, got {len(view)} bytes: not an image record"
        )
    flag, label, id_, id2 = HEADER.unpack_from(view)
    if flag == 0:
        return Header(0, label, id_, id2), view[HEADER.size :]
    begin = HEADER.size + 4 * flag
    if begin > len(view):
        raise RecordError(
            f"flag {flag} says {flag} label numbers, but only {len(view) - HEADER.size} bytes follow"
        )
    return Header(flag, np.frombuffer(view, "<f4", flag, HEADER.size), id_, id2), view[begin:]
