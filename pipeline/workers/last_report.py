"""Reports a flow run whose process could not: a process of its own beside it, which waits for its end.

When Prefect's worker is stopped, it may kill the processes of its flow runs with SIGKILL. Their stages get SIGTERM,
since their parent has died, and write a checkpoint; but nobody is left to report, and Prefect learns of it by missing
heartbeats after a minute and a half. This process survives SIGTERM and Ctrl-C. It waits until the stages have ended,
pushes the last checkpoint if that is wanted (``checkpoint_transfer``), and tells Prefect, so that another machine goes
on at once.

    python -m pipeline.workers.last_report WORKSPACE FLOW_RUN
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from uuid import UUID

LEAST_S = 3.0
"""For the worker to report itself what it has seen: a process that ended by itself."""
MOST_S = 60.0
"""For stages to write their checkpoints, and again for the server to answer."""


def promise(tree: Path, identity: str) -> None:
    """Have the end of this process reported, unless it comes to the end of its program."""
    # not the workspace's code, which is the coordinator's
    command = [sys.executable, "-P", "-m", __name__, str(tree), identity]
    beside = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)
    atexit.register(_release, beside)


def _release(beside: subprocess.Popen[bytes]) -> None:
    assert beside.stdin is not None
    with suppress(BrokenPipeError):
        beside.stdin.write(b".")
        beside.stdin.close()
    beside.wait()


def main() -> None:
    """Wait for the end of the process at the other end of standard input."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    tree, identity = Path(sys.argv[1]), UUID(sys.argv[2])
    if sys.stdin.buffer.read(1):
        return
    _await_stages(tree)
    if tree.is_dir():  # else it was completed and removed
        os.chdir(tree)
        _push(tree.name)
    _report(identity)


def _await_stages(tree: Path) -> None:
    """Wait until no process works in a workspace any more."""
    import psutil

    until_s, least_s = time.monotonic() + MOST_S, time.monotonic() + LEAST_S
    while time.monotonic() < until_s:
        folders = {process.info["cwd"] for process in psutil.process_iter(["cwd"])}
        if time.monotonic() > least_s and str(tree) not in folders:
            return
        time.sleep(0.2)


def _push(name: str) -> None:
    from pipeline.workers import checkpoint_transfer

    with suppress(Exception):  # the report is what matters
        if checkpoint_transfer.interval_s():
            checkpoint_transfer.push(name)


def _report(identity: UUID) -> None:
    from prefect.client.orchestration import get_client
    from prefect.states import Crashed

    from pipeline.workers.pool_executor import STOPPED
    from pipeline.workers.work_pool import patiently

    until_s = time.monotonic() + MOST_S

    def too_long() -> bool:
        return time.monotonic() > until_s

    with get_client(sync_client=True) as api:
        state = patiently(lambda: api.read_flow_run(identity), too_long).state
        if state is not None and not (state.is_final() or state.is_cancelling()):
            patiently(lambda: api.set_flow_run_state(identity, Crashed(message=STOPPED), force=True), too_long)


if __name__ == "__main__":
    main()
