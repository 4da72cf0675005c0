"""What became of stages and flow runs: small files under ``.facet``, deleted at will when nothing runs."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline import environment


@dataclass(frozen=True)
class Attempt:
    """One attempt to bring a stage up to date."""

    address: str
    state: str
    """``executed``, ``restored``, ``unchanged``, ``failed`` or ``stopped``."""
    message: str = ""
    command_s: float = 0.0
    """Seconds in the stage's own program."""
    ended: float = 0.0
    """Seconds since the epoch."""


@dataclass(frozen=True)
class LastRun:
    """The flow run that was started last."""

    flow_run_id: str
    name: str
    state: str
    message: str = ""


def _attempts_file(root: Path) -> Path:
    return environment.state_folder(root) / "attempts.jsonl"


def add_attempt(root: Path, attempt: Attempt) -> None:
    """Append an attempt; several processes may do so at once."""
    path = _attempts_file(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(asdict(attempt) | {"ended": attempt.ended or time.time()}) + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line.encode())  # one write of a short line is not torn by another's
    finally:
        os.close(descriptor)


def attempts(root: Path) -> list[Attempt]:
    """Return all attempts, oldest first; lines that were cut off are left out."""
    try:
        lines = _attempts_file(root).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            found.append(Attempt(**json.loads(line)))
        except (json.JSONDecodeError, TypeError):
            continue
    return found


def last_attempts(root: Path) -> dict[str, Attempt]:
    """Return the last attempt of each stage by address."""
    return {attempt.address: attempt for attempt in attempts(root)}


def durations(root: Path) -> dict[str, float]:
    """Return how long each stage's program took when it last ran to its end, by address, in seconds."""
    return {attempt.address: attempt.command_s for attempt in attempts(root) if attempt.state == "executed"}


def write_last_run(root: Path, run: LastRun) -> None:
    """Remember a flow run as the last one."""
    environment.write_json(environment.state_folder(root) / "last_run.json", asdict(run))


def last_run(root: Path) -> LastRun | None:
    """Return the flow run that was started last, or None."""
    tree = environment.read_json(environment.state_folder(root) / "last_run.json")
    return LastRun(**tree) if tree else None
