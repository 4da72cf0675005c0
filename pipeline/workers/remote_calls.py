"""Runs calls to the DVC remote in separate processes, which are ended when the remote stops answering.

A remote may accept a connection and say nothing for ever; DVC's patience with that is a minute for HTTP, half an hour
for SSH, endless for a network folder, and each of them times its retries. Here one limit holds for all: a process that
has used next to no CPU time for so long waits for somebody who does not answer. One that moves data uses some.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil

from pipeline.execution.fork_server import Forker
from pipeline.execution.job import Job
from stages.core.errors import OperationError

SILENT_S = 300.0
ALIVE_CPU_S = 0.05
"""CPU time that counts as activity: waiting itself costs some milliseconds a minute."""
LOOK_S = 1.0


class SilentRemoteError(OperationError):
    """The DVC remote accepts requests but does not answer."""


def patience_s() -> float:
    """Return the timeout of the remote: ``FACET_REMOTE_TIMEOUT`` in seconds, 0 for no limit."""
    return float(os.environ.get("FACET_REMOTE_TIMEOUT") or SILENT_S) or float("inf")


class Calls:
    """Calls in progress; may be used from several threads.

    After a silence all calls fail at once for as long as it lasted, so that hundreds of stages do not wait for it one
    after the other.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.jobs: set[int] = set()
        self.stopped = False
        self.closed_until_s = 0.0
        self.limit_s = patience_s()

    def call(self, forker: Forker, function: Callable[..., Any], **arguments: Any) -> Any:
        """Call a function of a module in a process and return what it returns, or raise what it raised.

        Raises:
            SilentRemoteError: the remote does not answer, or did not a moment ago.
            RuntimeError: it was stopped.
        """
        if time.monotonic() < self.closed_until_s:
            raise SilentRemoteError(self._why())
        job = forker.start("call", {"function": f"{function.__module__}:{function.__name__}", **arguments})
        with self.lock:
            self.jobs.add(job.pid)
            if self.stopped:
                job.stop()
        try:
            return self._wait(job)
        finally:
            with self.lock:
                self.jobs.discard(job.pid)
            job.close()

    def stop_all(self) -> None:
        """End all calls; start no others."""
        with self.lock:
            self.stopped = True
            for pid in self.jobs:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)

    def _wait(self, job: Job) -> Any:
        used_s, moved_s = 0.0, time.monotonic()
        for _ in job.events(LOOK_S):
            if job.over:
                break
            now_s = _cpu_s(job.pid)
            if now_s - used_s > ALIVE_CPU_S:
                used_s, moved_s = now_s, time.monotonic()
            if time.monotonic() - moved_s > self.limit_s:
                job.stop(signal.SIGKILL)
                self.closed_until_s = time.monotonic() + self.limit_s
                raise SilentRemoteError(self._why())
        return job.value()

    def _why(self) -> str:
        return (
            f"the DVC remote has not answered for {self.limit_s:.0f} s (FACET_REMOTE_TIMEOUT): see `dvc remote list`; "
            "finished work is kept, run again when it answers"
        )


def _cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process and its descendants."""
    total = 0.0
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        for each in [process, *process.children(recursive=True)]:
            with suppress(psutil.Error):
                total += sum(each.cpu_times()[:2])
    return total
