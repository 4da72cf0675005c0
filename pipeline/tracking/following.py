"""Shows trainings in MLflow while they run: reads the file of each and keeps its run up to date.

The file is the truth: whatever fails, the run is opened again and gets what it lacks.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.base import environment
from pipeline.base.workspace import Workspace
from pipeline.tracking import live_files, store, sync
from pipeline.tracking.desired import scope_of
from pipeline.tracking.live_files import LiveFile, Locks, State
from pipeline.tracking.locked_results import flatten, read_yaml
from stages.runtime import files, measurements

if TYPE_CHECKING:
    from pipeline.tracking.live_runs import LiveRun

UNLOCKED_S = 1800.0
"""How long DVC may take to record the outputs of a training that has finished."""
PAUSE_S = 5.0
"""After an error of the store."""
SETTLED = "settled.json"
STATUS: dict[State, str] = {"failed": "FAILED", "stopped": "KILLED", "killed": "KILLED"}

Say = Callable[[str], None]


def prepared_store(root: Path) -> str:
    """Return the tracking URI of a store that is ready for MLflow."""
    tracking_uri = store.uri(root)
    if not store.is_prepared(tracking_uri):
        sync.initialise_store(root)
    store.settle_environment()
    return tracking_uri


def in_one_line(error: Exception) -> str:
    r"""Return an error as one line, without the statement that a database refused.

    >>> in_one_line(OSError("(raised in a flush)\n(sqlite3) database or disk is full\n[SQL: INSERT INTO metrics ..."))
    'OSError: (raised in a flush) (sqlite3) database or disk is full'
    """
    return " ".join(f"{type(error).__name__}: {error}".partition("\n[SQL")[0].split())


@dataclass
class Followed:
    """One training and its run."""

    root: Path
    file: LiveFile
    where: Workspace
    locks: Locks
    run: LiveRun | None = None
    shown: str = ""
    """Status of the run as it was set last."""
    _made: int = 0

    def update(self) -> bool:
        """Bring the run up to date; return whether nothing more is expected of the training.

        Raises:
            Exception: whatever MLflow raises; the next call starts over.
        """
        self.file.look()
        if self.file.state == "killed":
            self.file.look()  # it may have ended well since
        if self.run is None and self._is_complete():
            return True
        if self.run is not None and self.file.made != self._made:
            self.start_over()
        run = self.run or self._open()
        run.log(self.file.waiting)
        self.file.waiting = []
        return self._show(run)

    def _is_complete(self) -> bool:
        """Return whether MLflow has the finished run of this training already."""
        fingerprint = self.locks.fingerprint(self.file) if self.file.state == "finished" else None
        if fingerprint is None:
            return False
        tracking_uri = prepared_store(self.root)
        from pipeline.tracking import live_runs  # imports MLflow

        return live_runs.is_complete(tracking_uri, scope_of(self.where), fingerprint)

    def start_over(self) -> None:
        """Forget the run: it is opened again, and gets what it lacks."""
        run, self.run, self.shown = self.run, None, ""
        if run is not None:
            run.release()

    def _open(self) -> LiveRun:
        tracking_uri = prepared_store(self.root)
        from pipeline.tracking import live_runs  # imports MLflow

        resolved = self.where.folder / "resolved/runs" / f"{self.file.name}.yaml"
        params = dict(flatten(read_yaml(resolved).get("train", {}))) if resolved.is_file() else {}
        self.run = live_runs.open_run(
            self.root, tracking_uri, scope_of(self.where), self.file.name, self.file.key, params
        )
        self.file.again(measurements.Curve(self.run.last_steps()))
        self.file.look()
        self._made = self.file.made
        return self.run

    def _show(self, run: LiveRun) -> bool:
        """Show how the training goes; return whether that is its end."""
        state, file = self.file.state, self.file
        if state in STATUS:
            return self._end(run, STATUS[state], str(file.end.get("reason", "")) or state)
        if self.shown != "RUNNING":
            run.begin()
            self.shown = "RUNNING"
        if state == "running":
            run.measure_machine()
            return False
        run.release()
        if fingerprint := self.locks.fingerprint(file):
            return self._end(run, "FINISHED", "", fingerprint)
        if time.time() - file.heard_s > UNLOCKED_S:
            return self._end(run, "KILLED", "it finished, and DVC did not record its outputs")
        return False

    def _end(self, run: LiveRun, status: str, reason: str, fingerprint: str | None = None) -> bool:
        with store.alone(self.root, timeout_s=0):
            run.end(status, self.file.heard_s, reason, fingerprint)
        return True


@dataclass
class Follower:
    """All trainings of a project and of the workspaces beside it."""

    root: Path
    say: Say
    clock: Callable[[], float] = time.monotonic
    followed: dict[Path, Followed] = field(default_factory=dict)
    busy_s: float = 0.0
    """When a training was last under way, by the clock."""
    _again_s: float = 0.0
    _locks: dict[Path, Locks] = field(default_factory=dict)
    _told: str = ""

    def __post_init__(self) -> None:
        self.busy_s = self.clock()
        self.settled = environment.read_json(self._memory)

    def prepare(self) -> None:
        """Import MLflow and make its database before the first training has anything to show: that takes seconds."""
        try:
            prepared_store(self.root)
            from pipeline.tracking import live_runs  # noqa: F401
        except Exception as error:  # as in `tick`, which tries again
            self._tell(in_one_line(error))

    def tick(self) -> None:
        """Bring every run up to date once; the store's errors are reported, and all is tried again."""
        for path in live_files.found(self.root):
            self._find(path)
        if self.followed:
            self.busy_s = self.clock()
        if self.clock() < self._again_s:
            return
        for path, one in list(self.followed.items()):
            try:
                if one.update():
                    self._settle(path, one)
            except FileNotFoundError:
                one.start_over()
                del self.followed[path]  # a new training of this run has another file
            except TimeoutError:
                continue  # `track` works on the store
            except Exception as error:  # of MLflow, its server, its database, a disk
                one.start_over()
                self._again_s = self.clock() + PAUSE_S
                self._tell(f"{one.file.name}: {in_one_line(error)}")
                return
        self._told = ""

    def close(self) -> None:
        """Stop measuring the machine; runs stay as they are."""
        for one in self.followed.values():
            if one.run is not None:
                one.run.release()

    def _find(self, path: Path) -> None:
        """Follow a training that is not followed or settled yet."""
        if path in self.followed:
            return
        try:
            if self.settled.get(str(path)) == path.stat().st_size:
                return
            file = LiveFile(path)
            file.look()
        except OSError:
            return
        if not file.about or not file.is_here:
            return
        where = live_files.workspace_of(self.root, file)
        if where is not None:
            locks = self._locks.setdefault(where.folder, Locks(where.folder))
            self.followed[path] = Followed(self.root, file, where, locks)

    def _settle(self, path: Path, one: Followed) -> None:
        del self.followed[path]
        self.settled = {other: size for other, size in self.settled.items() if Path(other).is_file()}
        self.settled[str(path)] = one.file.size
        with files.replacing(self._memory) as aside:
            aside.write_text(json.dumps(self.settled, indent=1) + "\n", encoding="utf-8")

    @property
    def _memory(self) -> Path:
        """The file of trainings of which nothing more is expected, with their sizes: one that goes on has grown."""
        return environment.state_folder(self.root) / measurements.FOLDER / SETTLED

    def _tell(self, line: str) -> None:
        if line != self._told:
            self.say(line)
            self._told = line
