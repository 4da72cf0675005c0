"""Runs Prefect's worker, and when it is told to stop, ends once all that the worker left has ended.

In a container the first process takes all others with it. Prefect's worker may end while the stages of its training
runs still write their checkpoints.

    python -m pipeline.workers.serve COMMAND ...
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from types import FrameType

import psutil

from pipeline.execution.stopping import PR_SET_CHILD_SUBREAPER
from stages.runtime.program import PR_SET_PDEATHSIG

LEFT_S = 90.0
"""For stages, and for who reports their end."""


def main() -> None:
    """Run the command of the command line, pass signals on to it, and exit as it does."""
    libc, stopped = ctypes.CDLL(None), list[int]()
    # whose parent dies becomes a child of this process
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    # a session of its own: Ctrl-C of a terminal reaches it once, through here
    worker = subprocess.Popen(
        sys.argv[1:], start_new_session=True, preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    )

    def pass_on(number: int, frame: FrameType | None) -> None:
        stopped.append(number)
        runs = psutil.Process(worker.pid).children() if worker.poll() is None else []
        worker.send_signal(number)
        # it may kill them at once, or wait for their end, which may be hours away
        for run in runs:
            with suppress(psutil.Error):
                run.terminate()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    code = worker.wait()
    if stopped:
        _await_rest()
    sys.exit(code if code >= 0 else 128 - code)


def _await_rest() -> None:
    until_s = time.monotonic() + LEFT_S
    while time.monotonic() < until_s:
        try:
            ended, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not ended:
            time.sleep(0.1)


if __name__ == "__main__":
    main()
