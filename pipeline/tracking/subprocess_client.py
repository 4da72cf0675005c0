"""Calls the MLflow code in separate processes: importing MLflow takes seconds."""

from __future__ import annotations

import selectors
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from pipeline.base import environment
from pipeline.base.workspace import Workspace
from stages.core.errors import OperationError

INITIALISE = "from pipeline.tracking import sync; print(sync.initialise_store())"


def initialise_store(root: Path) -> str:
    """Create or upgrade MLflow's database; return its URI.

    Raises:
        RuntimeError: that failed.
    """
    done = subprocess.run(
        [sys.executable, "-c", INITIALISE],
        cwd=root,
        env=environment.for_children(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise OperationError(f"MLflow's database cannot be opened: {environment.last_line(done.stderr)}")
    return environment.last_line(done.stdout)


def track(where: Workspace, say: Callable[[str], None], stopped: Callable[[], bool] = lambda: False) -> int:
    """Record what is finished in a workspace, calling ``say`` with each line it prints; return its exit code.

    Args:
        where: the workspace.
        say: called with lines.
        stopped: asked now and then whether to give up; the next call goes on from there.
    """
    program = ["pipeline.track"]
    if where.kind != "project":
        program += ["--workspace", where.text]
    with subprocess.Popen(
        [sys.executable, "-m", *program],
        cwd=where.project,
        env=environment.for_children(),
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            line = "-"
            while line:
                if stopped():
                    process.terminate()
                if selector.select(timeout=0.5):
                    line = process.stdout.readline()
                    if line.strip():
                        say(line.rstrip())
    return process.returncode
