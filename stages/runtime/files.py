"""Atomic writes: aside, then moved into place, so that a kill or a full disk leaves the file before."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
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


def is_cut_short(path: Path) -> bool:
    """Return whether a file of lines ends within a line, as a kill or a full disk leaves it: the next begins anew."""
    try:
        with path.open("rb") as stream:
            return bool(stream.seek(0, os.SEEK_END)) and (stream.seek(-1, os.SEEK_END), stream.read(1))[1] != b"\n"
    except FileNotFoundError:
        return False


def replace_folder(aside: Path, path: Path) -> None:
    """Move a finished folder to its place; one that is there is whole until the new one is.

    Both exchange their names in one step, and the former is then removed. A file system that cannot (NFS) takes two
    steps: a kill between them leaves no folder at ``path``, never half of one.
    """
    if not path.exists():
        aside.replace(path)
    elif _exchanged(aside, path):
        shutil.rmtree(aside)
    else:
        former = path.with_name(f"{path.name}.former.partial")
        shutil.rmtree(former, ignore_errors=True)
        path.replace(former)
        aside.replace(path)
        shutil.rmtree(former)


def _exchanged(first: Path, second: Path) -> bool:
    """Exchange the names of two folders in one step; False where system or file system cannot."""
    exchange = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if exchange is None:
        return False
    here, flag = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if exchange(here, os.fsencode(first), here, os.fsencode(second), flag) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        return False
    raise OSError(number, os.strerror(number), str(second))
