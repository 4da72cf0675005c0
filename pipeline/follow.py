"""Shows trainings in MLflow while they run: a process of its own, one per project, that reads files.

Run as ``python -m pipeline.follow`` in a project or a workspace; a second one ends at once. It ends by itself when
nothing has trained for a while. No stage waits for it, and none ends with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from pipeline.base import environment, workspace
from pipeline.tracking.following import Follower
from stages.core.errors import UnknownNameError
from stages.runtime import files, locks

POLL_S = 2.0
IDLE_S = 900.0
"""Longer than a training takes from its start by DVC to its first line."""
LOCK = "follower.lock"
PID = "follower.pid"
SETTINGS = {
    # nothing waits for this process, and a run that gets nothing now gets all of it later
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


def main() -> int:
    """Follow the project's trainings until there are none."""
    root = project_of(environment.find_root())
    environment.enter(root)
    os.environ.update({name: value for name, value in SETTINGS.items() if name not in os.environ})
    # trainings go first
    with contextlib.suppress(OSError):
        os.nice(5)
    signal.signal(signal.SIGTERM, _leave)
    with alone(root) as first:
        if first:
            follow(root)
    return 0


def follow(root: Path) -> None:
    """Bring runs up to date every few seconds until nothing has trained for a while."""
    follower = Follower(root, _say)
    try:
        follower.prepare()
        while follower.clock() - follower.busy_s < IDLE_S and root.is_dir():
            follower.tick()
            time.sleep(POLL_S)
    finally:
        follower.close()


@contextlib.contextmanager
def alone(root: Path) -> Iterator[bool]:
    """Yield whether this is the project's only follower, and let others know its process."""
    state = environment.state_folder(root)
    state.mkdir(parents=True, exist_ok=True)
    held = locks.try_lock(state / LOCK)
    if held is None:
        yield False
        return
    try:
        # whole or not at all: half of a pid is another process's
        with files.replacing(state / PID) as aside:
            aside.write_text(f"{os.getpid()}\n", encoding="utf-8")
        yield True
    finally:
        os.close(held)


def project_of(folder: Path) -> Path:
    """Return the project to which a workspace belongs; a project is its own."""
    with contextlib.suppress(UnknownNameError):
        outer = environment.find_root(folder.parent)
        if any(where.folder == folder for where in workspace.side_workspaces(outer)):
            return outer
    return folder


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


def _say(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
