"""What a reader finds in the folder of a case: values that are whole before the work or whole after it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any


def texts(*patterns: str) -> dict[str, Any]:
    """Return the content of each file that matches, temporary ones excepted; long ones by their digest."""
    found = {}
    for pattern in patterns:
        for path in sorted(Path().glob(pattern)):
            if path.is_file() and ".partial" not in path.as_posix():
                found[path.as_posix()] = _content(path)
    return found


def folder(path: str) -> dict[str, Any]:
    """Return a folder as one value: all its files, so that a mixture of two is neither."""
    here = Path(path)
    return {path: {one.relative_to(here).as_posix(): _content(one) for one in sorted(here.rglob("*")) if one.is_file()}} if here.is_dir() else {}


def _content(path: Path) -> str:
    data = path.read_bytes()
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = ""
    return text if text and len(text) < 2000 else hashlib.sha256(data).hexdigest()
