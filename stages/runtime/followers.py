"""Starts the programs that follow trainings: those that installed packages register under ``facet.followers``.

A stage knows none of them by name, waits for none, and goes on if one fails. `facet run` starts them itself and sets
FACET_LOG_FILE; then there is nothing to do here.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

from stages.runtime import progress

GROUP = "facet.followers"
"""Group of entry points; a module that runs as a program in the working directory, and ends by itself."""
SWITCH = "FACET_FOLLOW"


_started: list[subprocess.Popen[bytes]] = []
"""They outlive us; Python would warn of one that nobody keeps."""


def wanted() -> bool:
    """Return whether trainings are followed: unless FACET_FOLLOW is 0."""
    return os.environ.get(SWITCH, "1") != "0"


def modules() -> list[str]:
    """Return the registered modules, sorted."""
    return sorted({point.module for point in importlib.metadata.entry_points(group=GROUP)})


def start(log_folder: Path) -> None:
    """Start every registered program in a session of its own, so that it outlives this stage."""
    if not wanted() or os.environ.get("FACET_LOG_FILE"):
        return
    for module in modules():
        spawn(module, Path(), log_folder)


def spawn(module: str, folder: Path, log_folder: Path) -> None:
    """Start one; a follower that cannot be started is a warning."""
    try:
        log_folder.mkdir(parents=True, exist_ok=True)
        with (log_folder / "follower.log").open("ab") as log:
            started = subprocess.Popen(
                [sys.executable, "-m", module],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        _started.append(started)
    except OSError as error:
        progress.say(f"warning: nobody follows this training: {error}")
