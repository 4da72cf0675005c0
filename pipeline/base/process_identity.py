"""Identity of a process over time: its pid and when it began, because pids are used again and start times are not."""

from __future__ import annotations

import psutil

# clocks are set while processes run; no pid comes again so soon
BIRTH_TOLERANCE_S = 5.0


def check(pid: int) -> None:
    """Refuse a pid that is not positive, as in a damaged record: the kernel takes it for a group of processes.

    Raises:
        ValueError: it is not positive.
    """
    if pid < 1:
        raise ValueError(f"wanted the pid of one process, got {pid}")


def is_same(process: psutil.Process, born: float) -> bool:
    """Return whether a process is the one of its pid that began at ``born``, in seconds since the epoch."""
    return bool(abs(process.create_time() - born) < BIRTH_TOLERANCE_S)


def is_alive(pid: int, born: float) -> bool:
    """Return whether the process with this pid and start still runs; one that nobody has waited for yet is dead."""
    try:
        process = psutil.Process(pid)
        return is_same(process, born) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
