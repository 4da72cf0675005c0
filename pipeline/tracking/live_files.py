"""Trainings that are under way, from the files that they write: what is new in each, and how it goes.

Nothing here imports MLflow.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipeline.base import environment, process_identity, workspace
from pipeline.base.workspace import Workspace
from pipeline.execution import lock_damage
from pipeline.tracking import lineage
from stages.core.errors import InputError
from stages.runtime import measurements
from stages.runtime.measurements import Curve, Point

State = Literal["running", "finished", "failed", "stopped", "killed"]


@dataclass
class LiveFile:
    """One training's file, read as it grows."""

    path: Path
    about: dict[str, Any] = field(default_factory=dict)
    """What the last process that trains said at its beginning."""
    end: dict[str, Any] = field(default_factory=dict)
    """How it said that it ended; empty if it did not."""
    waiting: list[Point] = field(default_factory=list)
    """Points that nobody has taken yet."""
    curve: Curve = field(default_factory=Curve)
    heard_s: float = 0.0
    """Time of the last line, in seconds since the epoch."""
    made: int = 0
    """Grows when a training begins anew in the same file."""
    _head: bytes = b""
    _offset: int = 0

    def look(self) -> None:
        """Read the lines that came since the last call; a file that was made anew is read from its beginning.

        Raises:
            OSError: there is no such file any more.
        """
        with self.path.open("rb") as stream:
            head = stream.readline()
            if head != self._head:
                self.again(Curve())
                self._head = head if head.endswith(b"\n") else b""
                self.made += 1
            stream.seek(self._offset)
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                self._take(measurements.parse(line))

    def again(self, curve: Curve) -> None:
        """Read from the beginning at the next look, and take only what comes after the last steps of a curve."""
        self._offset, self.waiting, self.curve = 0, [], curve

    @property
    def size(self) -> int:
        """Number of bytes that were read."""
        return self._offset

    @property
    def is_here(self) -> bool:
        """Whether a process of this machine writes it."""
        return bool(self.about.get("host") == socket.gethostname())

    @property
    def name(self) -> str:
        """Name of the training run."""
        return str(self.about["run"])

    @property
    def key(self) -> str:
        """Identity of the training: its parameters, records and code."""
        return str(self.about["key"])

    @property
    def state(self) -> State:
        """How the training goes; killed if its process is gone and said nothing."""
        if self.end:
            ended: State = self.end[measurements.EVENT]
            return ended
        alive = process_identity.is_alive(int(self.about["pid"]), float(self.about["born"]))
        return "running" if alive else "killed"

    def _take(self, tree: dict[str, Any]) -> None:
        self.heard_s = float(tree.get("time", self.heard_s))
        event = tree.get(measurements.EVENT)
        if event == measurements.BEGAN:
            self.about, self.end = tree, {}
        elif event:
            self.end = tree
        elif point := self.curve.point(tree):
            self.waiting.append(point)


def found(root: Path) -> Iterator[Path]:
    """Yield the files of trainings in a project and in the workspaces beside it."""
    folders = {folder_in(where.folder) for where in (workspace.of_project(root), *workspace.side_workspaces(root))}
    for folder in sorted(folders):
        yield from sorted(folder.glob("*.jsonl"))


def folder_in(workspace_folder: Path) -> Path:
    """Return the folder of a workspace's files; several share one where FACET_HOME is absolute."""
    return environment.state_folder(workspace_folder).resolve() / measurements.FOLDER


def workspace_of(root: Path, file: LiveFile) -> Workspace | None:
    """Return the workspace of a project where a training runs; None if it is none of the project's."""
    for where in (workspace.of_project(root), *workspace.side_workspaces(root)):
        if where.folder.resolve() == Path(file.about["folder"]).resolve():
            return where
    return None


def is_running(workspace_folder: Path, name: str) -> bool:
    """Return whether a training run of a workspace is under way on this machine."""
    for path in folder_in(workspace_folder).glob(f"{name}.*.jsonl"):
        file = LiveFile(path)
        with contextlib.suppress(OSError):
            file.look()
        if not file.about or Path(file.about["folder"]).resolve() != workspace_folder.resolve():
            continue
        if file.is_here and file.state == "running":
            return True
    return False


class Locks:
    """A workspace's lock files, read again only when one has changed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._seen: dict[Path, int] = {}
        self._entries: dict[str, lineage.Entry] = {}

    def fingerprint(self, file: LiveFile) -> str | None:
        """Return the fingerprint of a training if its outputs are locked and here; else None."""
        entry = self._read().get(str(file.about["stage"]))
        if entry is None:
            return None
        folder = Path("results", file.name, "train")
        md5 = entry.outs.get(folder.as_posix(), "")
        about, _ = measurements.read(self.root / folder / measurements.FILE)
        if about.get("key") != file.key or not lineage.matches(self.root / folder, md5):
            return None
        return lineage.fingerprint(entry)

    def _read(self) -> dict[str, lineage.Entry]:
        seen = {path: path.stat().st_mtime_ns for path in lock_damage.files(self.root)}
        if seen != self._seen:
            # plain DVC writes them in place: half of one is not the last word
            with contextlib.suppress(InputError, ValueError):
                self._entries = dict(lineage.read(self.root).entries)
                self._seen = seen
        return self._entries
