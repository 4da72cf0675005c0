"""Progress of a stage: lines for a person, and a JSON line per measurement, a sign of life to the executor."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from stages.runtime import files

T = TypeVar("T")
Clock = Callable[[], float]


class Progress:
    """Writes ``LABEL  37%  2200/6000 images  312/s  12 s left`` to stderr, at most once per ``interval_s``."""

    def __init__(
        self, label: str, total: int, unit: str = "", interval_s: float = 5.0, clock: Clock = time.monotonic
    ) -> None:
        self.label, self.total, self.unit, self.interval_s, self.clock = label, total, unit, interval_s, clock
        self.done = 0
        self.start_s = self.last_s = clock()

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count ``count`` more done; write a line if it is time for one or all is done."""
        self.done += count
        now_s = self.clock()
        if now_s - self.last_s >= self.interval_s or self.done == self.total:
            self.last_s = now_s
            print(self.line(now_s) + (f"  {note}" if note else ""), file=sys.stderr, flush=True)

    def line(self, now_s: float) -> str:
        """Return the line for this moment."""
        rate = self.done / max(now_s - self.start_s, 1e-9)
        left_s = (self.total - self.done) / rate if rate else float("inf")
        share = 100 * self.done // max(self.total, 1)
        counted = f"{self.done}/{self.total} {self.unit}".rstrip()
        return f"{self.label}  {share:3d}%  {counted}  {rate:.0f}/s  {left_s:.0f} s left"

    def over(self, items: Iterable[T]) -> Iterator[T]:
        """Yield ``items`` and count each."""
        for item in items:
            yield item
            self.advance()


def say(message: str) -> None:
    """Print one line for the person who waits."""
    print(message, file=sys.stderr, flush=True)


def log_point(step: int, **values: float) -> None:
    """Append one measurement to the file ``FACET_LOG_FILE`` (nothing if unset).

    One JSON object a line: ``{"time": seconds since the epoch, "step": ..., NAME: value, ...}``. The executor looks
    at the file's time of change, not into it. A full disk or a missing folder must not end a training run, so write
    errors are reported and passed over.
    """
    path = os.environ.get("FACET_LOG_FILE")
    if not path:
        return
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        begin = "\n" if files.is_cut_short(Path(path)) else ""
        with Path(path).open("a", encoding="utf-8") as stream:
            stream.write(begin + json.dumps({"time": time.time(), "step": step, **values}) + "\n")
    except OSError as error:
        say(f"warning: cannot write {path}: {error}")
