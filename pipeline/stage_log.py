"""The log of a stage's program and its measurements; those of the time before are kept beside them.

They are moved aside when the program really starts, and not when somebody wants it to: a second run waits for a
stage on which another works, and would take that one's files away under its hands. Only the process that runs DVC
knows the moment, in which DVC lets nobody else at the stage; it says so with a line that nobody else could say.
"""

from __future__ import annotations

import contextlib
import os
import sys
import uuid
from pathlib import Path

SIGN = "FACET_BEGINS"
"""Variable with the line by which a process says that its stage's program starts; unset when it is not to."""
MEASUREMENTS = "FACET_LOG_FILE"


class StageLog:
    """Follows one stage of a run: what is said before its program starts waits, and may never get into the log."""

    def __init__(self, path: Path) -> None:
        self.path, self.measurements = path, path.with_suffix(".jsonl")
        self.sign = uuid.uuid4().hex
        self.begun = False
        self._early: list[str] = []

    @property
    def environment(self) -> dict[str, str]:
        """Return what the process that runs DVC needs to know; a program that is tried again goes on with its files."""
        return {MEASUREMENTS: str(self.measurements)} | ({} if self.begun else {SIGN: self.sign})

    def hear(self, line: str) -> bool:
        """Note a line; False if it is but the sign that the program starts."""
        if line == self.sign:
            self.begun = True
            self._append(self._early)
            return False
        if self.begun:
            self._append([line])
        else:
            self._early.append(line)
        return True

    def failed(self) -> None:
        """Keep what was said although the program did not start."""
        if not self.begun:
            self._append(self._early)

    def _append(self, lines: list[str]) -> None:
        # a full disk costs us the log, not the stage
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # appended, because another run may write to it too
            with self.path.open("a", encoding="utf-8") as log:
                log.writelines(f"{line}\n" for line in lines)


def begin() -> None:
    """Move log and measurements of the time before aside and give the sign, if this process is to."""
    # once, and the program does not get to know it
    sign = os.environ.pop(SIGN, "")
    if not sign:
        return
    measurements = Path(os.environ[MEASUREMENTS])
    for path in (measurements, measurements.with_suffix(".log")):
        with contextlib.suppress(OSError):
            path.replace(path.with_name(f"{path.stem}.previous{path.suffix}"))
    # DVC may be in the middle of a line
    sys.stderr.write(f"\n{sign}\n")
    sys.stderr.flush()
