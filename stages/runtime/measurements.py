"""Measurements of a training run while it runs: one file of JSON lines per training, over kills and resumes.

A line is a point, ``{"time": seconds since the epoch, "step": ..., NAME: value, ...}``, or an event of a process that
trains: it began, finished, failed or was stopped. A resumed training repeats the steps after its last checkpoint;
readers take the first value of each name at each step, so that a curve only ever grows.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from stages.runtime import files, program, progress

FOLDER = "live"
"""Of the files of trainings that are under way, below the state folder."""
FILE = "measurements.jsonl"
"""The whole curve of a finished training, in ``results/RUN/train``."""
EVENT, BEGAN, FINISHED, FAILED, STOPPED = "event", "began", "finished", "failed", "stopped"


@dataclass(frozen=True)
class Point:
    """Values measured at a step."""

    step: int
    time_s: float
    values: Mapping[str, float]


@dataclass
class Curve:
    """Reads lines in order, and drops what a resumed training measured again."""

    last: dict[str, int] = field(default_factory=dict)
    """The last step of each name."""

    def point(self, tree: Mapping[str, Any]) -> Point | None:
        """Return what is new in a line; None of an event or a damaged line, or if all of it was there before."""
        if EVENT in tree or "step" not in tree:
            return None
        try:
            step, time_s = int(tree["step"]), float(tree["time"])
            values = {name: float(value) for name, value in tree.items() if name not in ("time", "step")}
        except (KeyError, TypeError, ValueError, OverflowError):
            return None
        new = {name: value for name, value in values.items() if step > self.last.get(name, -1)}
        self.last |= dict.fromkeys(new, step)
        return Point(step, time_s, new) if new else None


def parse(line: str | bytes) -> dict[str, Any]:
    """Return a line as a tree; empty if a killed process left it half written."""
    try:
        tree = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return tree if isinstance(tree, dict) else {}


def read(path: Path, curve: Curve | None = None) -> tuple[dict[str, Any], list[Point]]:
    """Return what a file says of its training, and its points in order; nothing if there is no such file.

    Args:
        path: of the file.
        curve: what is known of it; only later points are returned.
    """
    try:
        trees = [parse(line) for line in path.read_bytes().splitlines()]
    except FileNotFoundError:
        return {}, []
    curve = curve or Curve()
    about = next((tree for tree in trees if tree.get(EVENT) == BEGAN), {})
    return about, [point for tree in trees if (point := curve.point(tree)) is not None]


class Measurements:
    """Appends to the file of one training; write errors are reported and passed over."""

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.path, self.about = path, about

    def log_point(self, step: int, **values: float) -> None:
        """Append a point, and show the executor a sign of life."""
        progress.log_point(step, **values)
        self._append({"time": time.time(), "step": step, **values})

    def event(self, what: str, **more: Any) -> None:
        """Append an event."""
        self._append({"time": time.time(), EVENT: what, **more})

    def write(self, path: Path) -> None:
        """Write the whole curve to another file: a line on its training, then each point once."""
        about, points = read(self.path)
        trees: Iterable[Mapping[str, Any]] = [
            {"time": about.get("time", time.time()), EVENT: BEGAN, **self.about},
            *({"time": point.time_s, "step": point.step, **point.values} for point in points),
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(path) as aside:
            aside.write_text("".join(json.dumps(tree) + "\n" for tree in trees), encoding="utf-8")

    def begin(self) -> None:
        """Append that this process trains; what a training before left behind is removed.

        That is the file of a finished one with the same key, and those of the same run with other parameters or code.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            for other in self.path.parent.glob(f"{self.about['run']}.*.jsonl"):
                if other != self.path or _is_over(other):
                    other.unlink()
            if files.is_cut_short(self.path):
                with self.path.open("a", encoding="utf-8") as stream:
                    stream.write("\n")  # the line that a killed process was writing
        except OSError as error:
            progress.say(f"warning: cannot prepare {self.path}: {error}")
        self.event(BEGAN, **self.about, **_process())

    def _append(self, tree: Mapping[str, Any]) -> None:
        try:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(tree) + "\n")
        except OSError as error:
            progress.say(f"warning: cannot write {self.path}: {error}")


@contextmanager
def recorded(path: Path, **about: Any) -> Iterator[Measurements]:
    """Yield the measurements of a training, and append at the end how it ended; SIGKILL leaves no such line."""
    made = Measurements(path, about)
    made.begin()
    try:
        yield made
    except program.Terminated:
        made.event(STOPPED)
        raise
    except BaseException as error:
        made.event(FAILED, reason=(str(error) or type(error).__name__).partition("\n")[0])
        raise
    made.event(FINISHED)


def _is_over(path: Path) -> bool:
    return any(parse(line).get(EVENT) == FINISHED for line in path.read_bytes().splitlines()[-1:])


def _process() -> dict[str, Any]:
    """Return which process this is; pids come again, and other machines have the same."""
    born = psutil.Process().create_time()
    return {"host": socket.gethostname(), "pid": os.getpid(), "born": born, "folder": str(Path.cwd())}
