"""What a killed job leaves running: its programs become children of the forker, which ends them."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import psutil

from pipeline.reproduce import GRACE_S


class Strays:
    """Children that are no jobs of ours: a killed job's programs. SIGTERM first, SIGKILL after ``GRACE_S``."""

    def __init__(self) -> None:
        self.jobs: set[int] = set()
        self.told_s: dict[int, float] = {}

    def end(self) -> None:
        """Reap who is dead; ask those left behind to stop, and kill those who had their time."""
        if not self._reap() and not self.told_s:
            return
        found = self._find()
        self.told_s = {pid: told_s for pid, told_s in self.told_s.items() if pid in found}
        now_s = time.monotonic()
        for pid in found:
            if pid not in self.told_s:
                self.told_s[pid] = now_s
                _signal(pid, signal.SIGTERM)
            elif now_s - self.told_s[pid] > GRACE_S:
                _signal(pid, signal.SIGKILL)

    def patience_s(self) -> float | None:
        """Return how long the loop may sleep; None is for ever."""
        return 1.0 if self.told_s else None

    def kill(self) -> None:
        """Kill them all: nobody will look after them."""
        for pid in self._find():
            _signal(pid, signal.SIGKILL)

    def bury(self, within_s: float = 0.2) -> None:
        """Wait a moment for jobs that have answered and are about to leave, so that their CPU seconds are counted."""
        until_s = time.monotonic() + within_s
        while self.jobs and time.monotonic() < until_s:
            self._reap()
            time.sleep(0.005)

    def _reap(self) -> bool:
        """Wait for the dead: the CPU seconds of a child that nobody waits for are counted nowhere."""
        died = False
        with contextlib.suppress(ChildProcessError):
            while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
                self.jobs.discard(pid)
                died = True
        return died

    def _find(self) -> set[int]:
        found = set()
        for child in psutil.Process().children():
            if child.pid not in self.jobs:
                found.add(child.pid)
                with contextlib.suppress(psutil.NoSuchProcess):
                    found.update(below.pid for below in child.children(recursive=True))
        return found


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
