"""Fair sharing of devices between runs: a run that has just released a device yields to runs that hold none.

Without it a run that starts its next stage in the moment when one ends takes every device before another, which
looks every half second, sees it free: two `facet run` on the same slots were seen to work one after the other.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

from stages.runtime import locks

YIELD_S = 2.5
"""How long a device is left to others; those who wait look at least once a second. No longer, because whoever
waits may be unable to use it (another mask, a stopped process)."""


def waiting_file(folder: Path) -> Path:
    """Return the file on which all waiting runs hold a shared lock."""
    return folder / "waiting.lock"


class Turns:
    """The turn of one run at the devices of one lease folder."""

    def __init__(self, folder: Path, now_s: Callable[[], float] = time.monotonic) -> None:
        self.path, self.now_s = waiting_file(folder), now_s
        self._mark: int | None = None
        self._released_s: float | None = None

    def released(self) -> None:
        """Record that this run has just released a device."""
        self._released_s = self.now_s()

    def is_ours(self) -> bool:
        """Return whether this run may take a device now; False while it yields to others."""
        if self._released_s is None or self._mark is not None:
            return True
        return self.now_s() - self._released_s >= YIELD_S or not self._others_wait()

    def wait(self) -> None:
        """Announce that this run has no device and wants one, until `stop_waiting` or the end of this process."""
        if self._mark is None:
            self._mark = locks.open_file(self.path)
            # blocks for as long as another one looks: microseconds
            fcntl.flock(self._mark, fcntl.LOCK_SH)

    def stop_waiting(self) -> None:
        """Withdraw the announcement; a second call does nothing."""
        if self._mark is not None:
            os.close(self._mark)
            self._mark = None

    def _others_wait(self) -> bool:
        descriptor = locks.try_lock(self.path)
        if descriptor is not None:
            os.close(descriptor)
        return descriptor is None
