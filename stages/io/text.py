"""Reads text files in the encodings that people's systems write, and finds files by the names that lists have."""

from __future__ import annotations

import codecs
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from stages.core.errors import InputError

_BLOCK = 1 << 20


def encoding_of(path: Path) -> str:
    """Return the encoding of a text file: UTF-8 with or without a byte-order mark, UTF-16 with one, else Windows-1252.

    Where Windows-1252 does not know a byte it is Latin-1. The file is read once for it, in blocks.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it begins as UTF-16 does, and is cut short or damaged.
    """
    with path.open("rb") as stream:
        is_utf16 = stream.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    if is_utf16 and not _fits(path, "utf-16"):
        raise InputError(f"{path} begins as a text in UTF-16 does, and is cut short or damaged: save it as UTF-8")
    if is_utf16:
        return "utf-16"
    return next(one for one in ("utf-8-sig", "cp1252", "latin-1") if one == "latin-1" or _fits(path, one))


def _fits(path: Path, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def existing(folder: Path, name: str) -> Path:
    """Return the path of a file that a list names, spelled as the file system has it.

    macOS writes accents apart from their letters, and old systems write names in Windows-1252: a name with other than
    ASCII letters may be either. If no spelling is there, it is the path as it is named.
    """
    path = folder / name
    if name.isascii() or path.exists():
        return path
    return next((other for one in spellings(name) if (other := folder / one).exists()), path)


def spellings(name: str) -> Iterator[str]:
    """Yield how other systems spell a file's name: accents apart, accents joined, or in Windows-1252."""
    yield unicodedata.normalize("NFD", name)
    yield unicodedata.normalize("NFC", name)
    try:
        yield os.fsdecode(unicodedata.normalize("NFC", name).encode("cp1252"))
    except UnicodeEncodeError:
        return


def read_lines(path: Path) -> list[str]:
    """Return the lines of a file without their ends, which may be of any system.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is a text in UTF-16, cut short or damaged.
    """
    with path.open(encoding=encoding_of(path)) as stream:  # its line ends become "\n"
        return stream.read().split("\n")
