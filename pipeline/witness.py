"""A small process beside each flow run that tells Prefect's server when the run was killed, its tasks included.

A killed process tells nobody, and Prefect's own watch (``zombies``) takes 90 s and sees flow runs alone: their tasks
would be shown as running until the next `facet` command. A witness has a session of its own, so that a signal to the
run's process group spares it, waits at a pipe that the kernel closes when the run is dead, and has imported next to
nothing until then. A machine that dies takes it along: then the server's watch is what there is.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline import environment

DEAD_WITHIN_S = 10.0
"""The kernel closes the files of a process that is killed somewhat before it is gone."""


@contextlib.contextmanager
def watching(root: Path, flow_run_id: str) -> Iterator[None]:
    """Have the flow run watched while the block runs."""
    read, write = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.witness", flow_run_id],
        stdin=read,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=root,
        env=environment.for_children(),
        start_new_session=True,
    )
    os.close(read)
    try:
        yield
    finally:
        with contextlib.suppress(BrokenPipeError):
            os.write(write, b"over")
        os.close(write)
        process.wait()


def main(flow_run_id: str) -> None:
    """Wait until standard input ends; tell the server of a run that did not say it was over."""
    if sys.stdin.buffer.read():
        return
    from pipeline import records, settle

    until_s = time.monotonic() + DEAD_WITHIN_S
    while time.monotonic() < until_s:
        if flow_run_id in {one.flow_run_id for one in records.unsettled(Path.cwd())}:
            settle.settle_all(Path.cwd())
            return
        time.sleep(0.05)


if __name__ == "__main__":
    main(sys.argv[1])
