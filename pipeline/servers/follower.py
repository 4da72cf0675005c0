"""The project's follower, which shows trainings in MLflow while they run: started if none is there; ended."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import psutil

from pipeline import follow
from pipeline.base import environment
from stages.runtime import followers, locks

END_S = 10.0


def ensure(root: Path) -> None:
    """Start the follower of a project unless it runs, or FACET_FOLLOW is 0."""
    if followers.wanted() and not runs(root):
        followers.spawn(follow.__name__, root, environment.log_folder(root))


def runs(root: Path) -> bool:
    """Return whether a follower of the project runs."""
    path = environment.state_folder(root) / follow.LOCK
    if not path.is_file():
        return False
    held = locks.try_lock(path)
    if held is None:
        return True
    os.close(held)
    return False


def end(root: Path) -> bool:
    """End the follower of a project; return whether one ran."""
    if not runs(root):
        return False
    with contextlib.suppress(OSError, ValueError, psutil.NoSuchProcess):
        process = psutil.Process(int((environment.state_folder(root) / follow.PID).read_text(encoding="utf-8")))
        process.send_signal(signal.SIGTERM)
        until_s = time.monotonic() + END_S
        while process.is_running() and runs(root) and time.monotonic() < until_s:
            time.sleep(0.05)
        if runs(root):
            process.kill()
    return True
