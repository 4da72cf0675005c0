"""Workspaces, folders with a graph and a dvc.lock of their own: which one a command works in, and its identity."""

from __future__ import annotations

import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.base import environment
from stages.core.errors import InputError

Kind = Literal["project", "ablations", "sweep"]
FOLDERS: dict[Kind, str] = {"ablations": "ablations", "sweep": "sweeps"}
"""Of the workspaces beside a project, below its state folder."""


@dataclass(frozen=True)
class Workspace:
    """A folder where the graph runs."""

    folder: Path
    project: Path
    """Whose servers, leases and MLflow store it uses."""
    kind: Kind = "project"
    name: str = ""
    """The scale of ablations, the key of a sweep."""

    @property
    def text(self) -> str:
        """What ``parse`` reads."""
        return "" if self.kind == "project" else f"{self.kind}/{self.name}"


def of_project(root: Path) -> Workspace:
    """Return the project's own workspace."""
    return Workspace(root, root)


def beside(root: Path, kind: Kind, name: str) -> Workspace:
    """Return the side workspace of a project that has this name; it need not be there yet."""
    return Workspace(_folder(root, kind) / name, root, kind, name)


def parse(root: Path, text: str) -> Workspace:
    """Return the workspace of a project that ``KIND/NAME`` names; the project's own if it is empty.

    >>> parse(Path("/p"), "ablations/demo").folder, parse(Path("/p"), "").kind
    (PosixPath('/p/.facet/ablations/demo'), 'project')

    Raises:
        ValueError: it is neither.
    """
    kind, _, name = text.partition("/")
    for known in FOLDERS:
        if kind == known and name:
            return beside(root, known, name)
    if text:
        raise InputError(f"a workspace is KIND/NAME, and KIND one of {', '.join(FOLDERS)}; got {text!r}")
    return of_project(root)


def side_workspaces(root: Path) -> list[Workspace]:
    """Return every side workspace of a project that is there."""
    return [beside(root, kind, path.name) for kind in FOLDERS for path in sorted(_folder(root, kind).glob("*"))]


def _folder(root: Path, kind: Kind) -> Path:
    return environment.state_folder(root).resolve() / FOLDERS[kind]


def identity(root: Path) -> str:
    """Return eight characters that no other workspace has; made once, and again in a copy of the folder."""
    path = environment.state_folder(root) / "workspace.json"
    where = str(root.resolve())
    if environment.read_json(path).get("path") != where:
        environment.write_json(path, {"path": where, "identity": secrets.token_hex(4)})
    # what is there now, for two may have made it at once
    return str(environment.read_json(path)["identity"])


def queue(workspace: str) -> str:
    """Return the queue that only workers of one workspace serve."""
    return f"workspace-{workspace}"


def worker_name(what: str, workspace: str) -> str:
    """Return the name of a worker: what it runs, machine, workspace."""
    return f"{what} on {socket.gethostname()} ({workspace})"
