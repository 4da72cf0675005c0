"""Atomic writes: aside, then moved into place, so that a kill or a full disk leaves the file before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path, shared: bool = False) -> Iterator[Path]:
    """Give a path aside to write; move it to ``path`` if the block ends well, else remove it.

    Args:
        path: of the file; its folder is made.
        shared: several processes may write it at once, so that each needs a path of its own.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{os.getpid()}.partial" if shared else f"{path.name}.partial")
    try:
        yield aside
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
