"""Journals of stages and flow runs: small files under ``.facet``, which may be deleted when nothing runs."""

from __future__ import annotations

import json
import os
import time
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from pipeline.base import environment, process_identity, records
from pipeline.execution.stage_result import StageResult
from stages.runtime import files


def _as_far_as_possible() -> AbstractContextManager[None]:
    """Make a full disk cost only a journal entry, not the run."""
    return suppress(OSError)


@dataclass(frozen=True)
class LastRun:
    """The flow run that was started last."""

    flow_run_id: str
    name: str
    state: str
    message: str = ""


@dataclass(frozen=True)
class FlowRun:
    """A flow run whose end Prefect's server may not know: it runs, was killed, or the server was away."""

    flow_run_id: str
    pid: int
    born: float
    """Start time from the kernel, in seconds since the epoch."""
    state: str = ""
    """Final state; empty while it runs, or if it was killed."""
    message: str = ""
    missed: bool = False
    """Prefect's server was away for a time, so that it may have missed something."""

    def __post_init__(self) -> None:
        process_identity.check(self.pid)

    @property
    def alive(self) -> bool:
        """Return whether its process still runs and works on it."""
        return not self.state and process_identity.is_alive(self.pid, self.born)


def _open_folder(root: Path) -> Path:
    return environment.state_folder(root) / "flow-runs"


def this_flow_run(flow_run_id: str) -> FlowRun:
    """Return the record of the flow run of this process."""
    return FlowRun(flow_run_id, os.getpid(), psutil.Process().create_time())


def write_open(root: Path, one: FlowRun) -> None:
    """Record a flow run until its end is reported to Prefect."""
    with _as_far_as_possible():
        environment.write_json(_open_folder(root) / f"{one.flow_run_id}.json", asdict(one))


def unsettled(root: Path) -> list[FlowRun]:
    """Return the flow runs that have ended, killed or not, and may not be reported to Prefect."""
    trees = [environment.read_json(path) for path in sorted(_open_folder(root).glob("*.json"))]
    found = [records.of(FlowRun, tree) for tree in trees]
    return [one for one in found if one is not None and not one.alive]


def ended_here(root: Path) -> FlowRun | None:
    """Return the flow run that this process worked on and whose end is not settled yet, if it has come to one."""
    return next((one for one in unsettled(root) if one.pid == os.getpid() and one.state), None)


def forget(root: Path, one: FlowRun) -> None:
    """Delete the record of a flow run whose end was reported."""
    (_open_folder(root) / f"{one.flow_run_id}.json").unlink(missing_ok=True)


def _attempts_file(root: Path) -> Path:
    return environment.state_folder(root) / "attempts.jsonl"


def add_attempt(root: Path, attempt: StageResult) -> None:
    """Append an attempt; several processes may do so at once."""
    path = _attempts_file(root)
    line = json.dumps(asdict(attempt) | {"ended": attempt.ended or time.time()}) + "\n"
    with _as_far_as_possible():
        path.parent.mkdir(parents=True, exist_ok=True)
        if files.is_cut_short(path):
            line = "\n" + line
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line.encode())  # one write of a short line is not torn by another's
        finally:
            os.close(descriptor)


def attempts(root: Path) -> list[StageResult]:
    """Return all attempts, oldest first; truncated lines are left out."""
    try:
        lines = _attempts_file(root).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    return [one for line in lines if (one := records.of(StageResult, _tree(line))) is not None]


def _tree(line: bytes) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def last_attempts(root: Path) -> dict[str, StageResult]:
    """Return the last attempt of each stage by address."""
    return {attempt.address: attempt for attempt in attempts(root)}


def durations(root: Path) -> dict[str, float]:
    """Return the duration in seconds of each stage's last complete program run, by address."""
    return {attempt.address: attempt.command_s for attempt in attempts(root) if attempt.state == "executed"}


def write_last_run(root: Path, run: LastRun) -> None:
    """Remember a flow run as the last one."""
    with _as_far_as_possible():
        environment.write_json(environment.state_folder(root) / "last_run.json", asdict(run))


def last_run(root: Path) -> LastRun | None:
    """Return the flow run that was started last, or None."""
    return records.of(LastRun, environment.read_json(environment.state_folder(root) / "last_run.json"))
