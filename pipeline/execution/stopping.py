"""SIGTERM in a process that runs DVC: the stage's program and all it started end first, then the process."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from types import FrameType

import psutil

from stages.runtime import program

PR_SET_CHILD_SUBREAPER = 36
GRACE_S = int(os.environ.get("FACET_GRACE_S", "15"))
"""How long a stage may take to keep what it has after SIGTERM."""


class StopError(BaseException):
    """SIGTERM came; not an ``Exception``, because DVC swallows those."""


class Stopping:
    """SIGTERM, turned into an orderly end: never inside DVC's own work, which could leave half a dvc.lock."""

    def __init__(self) -> None:
        self.asked = False
        self.waiting = False

    def install(self) -> None:
        """Handle signals in this process, which becomes responsible for all that its stage starts."""
        if sys.platform == "linux":
            # what a dying shell leaves behind becomes our child, so that we still find it
            ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGALRM, lambda number, frame: kill_descendants())
        # Ctrl-C reaches every process of a terminal; the flow turns it into one SIGTERM
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            return
        self.asked = True
        for one in _shells_and_programs():
            with contextlib.suppress(psutil.NoSuchProcess):
                one.terminate()
        signal.alarm(GRACE_S)
        if self.waiting:
            raise StopError

    def check(self) -> None:
        """Leave if SIGTERM came."""
        if self.asked:
            raise StopError


    def end_descendants(self) -> list[str]:
        """Kill what the stage left running; return the command lines.

        After SIGTERM it has the rest of its grace first: Debian's shell ends at once, and DVC with it, while the
        program behind it still saves its state.
        """
        if self.asked:
            psutil.wait_procs(psutil.Process().children(recursive=True), timeout=GRACE_S)
        return kill_descendants()


def _shells_and_programs() -> list[psutil.Process]:
    """Return what DVC started, and what a shell among that started: bash becomes its last command, dash stays."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            words = child.cmdline()
            found += [child, *(child.children() if program.is_shell(words) else [])]
    return found


def kill_descendants() -> list[str]:
    """Kill everything that this process started and that still runs; return their command lines."""
    killed = []
    for child in psutil.Process().children(recursive=True):
        try:
            command = " ".join(child.cmdline())
            child.kill()
        except psutil.NoSuchProcess:
            continue
        killed.append(command)
    return killed
