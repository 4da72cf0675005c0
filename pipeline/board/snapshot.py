"""Snapshot of a run of stages: what waits, runs and has ended; a file of it lets other terminals show the same."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pipeline.base import environment, workspace
from pipeline.board import progress_line
from pipeline.board.progress_line import Measured
from pipeline.execution.history import FlowRun
from pipeline.execution.stage_result import GOOD

WAITING, RUNNING, FAILED = "waiting", "running", "failed"


@dataclass(frozen=True)
class StageNow:
    """One stage of a run, as it is now."""

    name: str
    group: str = ""
    """The table under which it is shown, or another heading."""
    run: str = ""
    """The training run that it belongs to; empty for others."""
    state: str = WAITING
    """``waiting``, ``running``, or how it ended: a state of ``StageResult``."""
    expected_s: float | None = None
    """Seconds that it is expected to take; None if nothing like it has run here."""
    began: float = 0.0
    """Seconds since the epoch; 0 if it has not begun."""
    seconds: float = 0.0
    """Seconds in its program, once it has ended."""
    device: str = ""
    line: str = ""
    """Its last output line."""
    heard: float = 0.0
    """When that came, in seconds since the epoch."""
    message: str = ""
    """Why it failed or was skipped."""

    @property
    def kind(self) -> str:
        """The name without the key: ``train_backbone``."""
        return self.name.partition("@")[0]

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self.state not in (WAITING, RUNNING)

    @property
    def good(self) -> bool:
        """Whether it is up to date now."""
        return self.state in GOOD

    @property
    def measured(self) -> Measured | None:
        """What its last output line says, if that is a progress line."""
        return progress_line.parse(self.line)

    def elapsed_s(self, now: float) -> float:
        """Return the seconds since it began; 0 if it does not run."""
        return max(now - self.began, 0.0) if self.state == RUNNING else 0.0


@dataclass(frozen=True)
class Snapshot:
    """A run of stages, as it is now."""

    title: str
    flow_run: FlowRun
    """Which process works on it, and, in the end, how it ended."""
    began: float
    stages: Sequence[StageNow] = ()
    left_s: float | None = None
    """Seconds that the rest takes; None if not even a part of them is known."""
    left_is: Literal["about", "more than", "at most"] = "about"
    """How ``left_s`` is meant: of some stages nothing is known yet, or perhaps not all will have to run."""
    stopping: str = ""
    """Why the run is being stopped; empty if it is not."""
    url: str = ""
    """Of its page in Prefect."""
    logs: str = ""
    """The folder of the logs of its stages."""
    at: float = field(default_factory=time.time)

    @property
    def over(self) -> bool:
        """Whether it has come to its end, or its process has died."""
        return not self.flow_run.alive

    def of(self, *states: str) -> list[StageNow]:
        """Return the stages in one of these states."""
        return [stage for stage in self.stages if stage.state in states]

    @property
    def failures(self) -> list[StageNow]:
        """The stages that failed."""
        return self.of(FAILED)

    @property
    def num_ended(self) -> int:
        """How many stages are over."""
        return sum(stage.ended for stage in self.stages)


def _folder(root: Path) -> Path:
    return environment.state_folder(root) / "boards"


def write(root: Path, one: Snapshot) -> None:
    """Write the snapshot of a run in a workspace; a full disk costs other terminals their picture, not the run."""
    with suppress(OSError):
        environment.write_json(_folder(root) / f"{one.flow_run.flow_run_id}.json", asdict(one))


def clear(root: Path) -> None:
    """Remove the snapshots of the workspace's runs that are over."""
    for path in _folder(root).glob("*.json"):
        one = _read(path)
        if one is None or one.over:
            with suppress(OSError):
                path.unlink(missing_ok=True)


def read(project: Path, flow_runs: Iterable[str] = ()) -> list[Snapshot]:
    """Return the snapshots of what runs in a project and the workspaces beside it, the oldest run first.

    Args:
        project: the project's folder.
        flow_runs: IDs of runs to return although they are over.
    """
    known = set(flow_runs)
    folders = [project, *(one.folder for one in workspace.side_workspaces(project))]
    # FACET_HOME may give them all one folder
    paths = sorted({path for folder in folders for path in _folder(folder).glob("*.json")})
    found = [one for path in paths if (one := _read(path)) and (one.flow_run.flow_run_id in known or not one.over)]
    return sorted(found, key=lambda one: one.began)


def _read(path: Path) -> Snapshot | None:
    """Return a snapshot; None if the file is gone, truncated or of another version."""
    tree = environment.read_json(path)
    try:
        return _of(tree) if tree else None
    except (TypeError, KeyError):
        return None


def _of(tree: Mapping[str, Any]) -> Snapshot:
    stages = tuple(StageNow(**stage) for stage in tree["stages"])
    return Snapshot(**{**tree, "stages": stages, "flow_run": FlowRun(**tree["flow_run"])})


def same(one: Snapshot | None, other: Snapshot) -> bool:
    """Whether nothing has happened between two snapshots but time.

    >>> a = Snapshot("all", FlowRun("1", 2, 3.0), 4.0, left_s=9.0, at=5.0)
    >>> same(a, replace(a, at=6.0, left_s=8.0)), same(a, replace(a, stopping="stopped by Ctrl-C")), same(None, a)
    (True, False, False)
    """
    return one is not None and replace(one, at=other.at, left_s=other.left_s) == other
