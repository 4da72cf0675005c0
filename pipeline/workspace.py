"""Which workspace this is: one folder with its own dvc.lock. Workers of the same one need no transport."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

from pipeline import environment

EVERYWHERE = "default"
"""The queue of a pool from which the workers of all workspaces take stages."""


def identity(root: Path) -> str:
    """Return eight characters that no other workspace has; made once, and anew in a copy of the folder."""
    path = environment.state_folder(root) / "workspace.json"
    where = str(root.resolve())
    if environment.read_json(path).get("path") != where:
        environment.write_json(path, {"path": where, "identity": secrets.token_hex(4)})
    # what is there now, for two may have made it at once
    return str(environment.read_json(path)["identity"])


def queue(workspace: str) -> str:
    """Return the queue from which only workers of one workspace take stages."""
    return f"workspace-{workspace}"


def worker_name(device: str, workspace: str) -> str:
    """Return what a worker is called: device, machine, workspace.

    >>> is_of(worker_name("gpu:0", "0a1b2c3d"), "0a1b2c3d"), is_of(worker_name("gpu:0", "0a1b2c3d"), "99999999")
    (True, False)
    """
    return f"{device} on {socket.gethostname()} ({workspace})"


def is_of(worker: str, workspace: str) -> bool:
    """Whether a worker works in a workspace."""
    return worker.endswith(f"({workspace})")
