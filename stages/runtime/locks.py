"""File locks of the kernel (`flock`): gone with the processes that hold them, however those ended."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def open_file(path: Path) -> int:
    """Return a descriptor of a lock file that any user may have made; its folder, made here, is everybody's."""
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.parent.chmod(0o1777)
    while True:
        try:
            # reading is enough for `flock`
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            # O_CREAT alone on another user's file fails in a sticky folder (fs.protected_regular)
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            except FileExistsError:
                continue
            # a umask of 077 would keep every other user from opening it
            os.fchmod(descriptor, 0o644)
            os.close(descriptor)


def try_lock(path: Path, kind: int = fcntl.LOCK_EX) -> int | None:
    """Return a descriptor that holds the lock until it is closed, or None if another process does; never waits."""
    descriptor = open_file(path)
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Wait for the lock of one's own file ``path`` and hold it while the block runs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
