"""Reads text files in the encodings that people's systems write."""

from __future__ import annotations

import codecs
from pathlib import Path


def decode(data: bytes) -> str:
    r"""Return text of UTF-8 (with or without a byte-order mark), of UTF-16 with one, or else of Windows-1252.

    Bytes that Windows-1252 does not know are read as Latin-1.

    >>> decode(b"\xef\xbb\xbfJos\xc3\xa9"), decode(b"Jos\xe9")
    ('José', 'José')
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    for encoding in ("utf-8-sig", "cp1252"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return data.decode("latin-1")


def read_lines(path: Path) -> list[str]:
    """Return the lines of a file without their ends, which may be of any system.

    Raises:
        FileNotFoundError: no such file.
    """
    return decode(path.read_bytes()).replace("\r\n", "\n").replace("\r", "\n").split("\n")
