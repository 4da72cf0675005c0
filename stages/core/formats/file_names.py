"""Names of files as text that every program can write: a file system takes any bytes."""

from __future__ import annotations

import os


def readable(name: str) -> str:
    r"""Return a file's name with bytes that are not UTF-8 written as ``\xHH``.

    >>> print(readable("caf\udce9.jpg"), readable("café.jpg"))
    caf\xe9.jpg café.jpg
    """
    return os.fsencode(name).decode("utf-8", "backslashreplace")
