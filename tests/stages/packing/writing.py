"""Packs a folder as it is, and says what a folder holds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from stages.packing import pictures, plan, write


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def packed(source: Path, target: Path, take: Callable[[Path], pictures.Packed] = pictures.as_it_is, **options: object) -> dict[str, str]:
    write.write(source, target, plan.of(source), take, **options)
    return contents(target)
