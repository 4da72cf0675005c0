"""Log files of a stage: each run has its own, ``NAME.ID.log`` and ``NAME.ID.jsonl``; links have the names without ID.

The links are moved when the program really starts, and not when a run wants it to: a second run waits for a stage on
which another works. Only the process that runs DVC knows the moment; DVC lets nobody else at the stage then.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path

MEASUREMENTS = "FACET_LOG_FILE"


class Note(str):
    """A line about a stage that is not its own: why it is tried again."""

    __slots__ = ()


class StageLog:
    """The files of one run of one stage."""

    def __init__(self, folder: Path, name: str) -> None:
        self.link = folder / f"{name}.log"
        self.path = folder / f"{name}.{uuid.uuid4().hex[:8]}.log"
        self.measurements = self.path.with_suffix(".jsonl")

    def append(self, line: str) -> None:
        """Write a line; a full disk costs us the log, not the stage."""
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as log:
                log.write(line + "\n")

    def close(self, failed: bool) -> None:
        """Remove the log of a program that did not start; why it failed to goes to the end of the one before."""
        with contextlib.suppress(OSError):
            if self.link.resolve() != self.path.resolve():
                if failed:
                    with self.link.open("a", encoding="utf-8") as log:
                        log.write(self.path.read_text(encoding="utf-8"))
                self.path.unlink()


def begin() -> None:
    """Link this run's files, and those of the time before as ``NAME.previous``; called as the program starts."""
    measurements = Path(os.environ.get(MEASUREMENTS, ""))
    for path in (measurements, measurements.with_suffix(".log")) if measurements.name else ():
        name = path.name.rsplit(".", 2)[0]
        link, before = path.with_name(name + path.suffix), path.with_name(f"{name}.previous{path.suffix}")
        with contextlib.suppress(OSError):
            if link.resolve() == path.resolve():
                continue  # it is tried again, and goes on with its files
            link.parent.mkdir(parents=True, exist_ok=True)
            before.resolve().unlink(missing_ok=True)
            if link.is_symlink() or link.exists():
                link.replace(before)
            link.symlink_to(path.name)
