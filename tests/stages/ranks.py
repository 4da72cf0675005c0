"""Runs a function in several processes with a process group, as torchrun would, without its start-up time.

They are forked from a clean server, never from the process of the tests. That one has threads as soon as some test ran
a backward pass, sorted with OpenCV or the like, and a fork has all their locks and none of them: where there is a GPU,
autograd refuses to work in it, and OpenCV waits for ever.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import connection, get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import cloudpickle
import cv2
import torch

from stages.runtime import artifacts
from stages.training import distributed
from stages.training.distributed import Processes
from tests.support import ROOT

CLEAN = get_context("forkserver")
CLEAN.set_forkserver_preload(["pytest", "stages.train_backbone", "tests.stages.small_training"])


def run(count: int, work: Callable[[Processes], None], timeout_s: float = 100.0) -> None:
    """Run ``work`` in ``count`` processes; raise if one fails or takes too long.

    It may be any function, with all it refers to; a module that this test changed is as it was.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = [start(partial(_join, rank, count, port, work)) for rank in range(count)]
    deadline = time.monotonic() + timeout_s
    running = {one.sentinel: one for one in started}
    while running and not any(one.exitcode for one in started):
        ended = connection.wait(list(running), deadline - time.monotonic())
        if not ended:
            break
        for sentinel in ended:
            running.pop(sentinel).join()  # type: ignore[call-overload]
    for one in running.values():
        one.kill()
        one.join()
    codes = [one.exitcode for one in started]
    assert codes == [0] * count, f"exit codes {codes}"


def exit_code(work: Callable[[], None]) -> int:
    """Run ``work`` in a process of its own; return its exit code, or minus the signal that ended it."""
    one = start(work)
    one.join()
    assert one.exitcode is not None
    return one.exitcode


def start(work: Callable[[], None]) -> ForkServerProcess:
    """Start ``work`` in a fresh process that has the folder, the environment and the state folder of this one."""
    place = Path.cwd()
    one = CLEAN.Process(target=_work, args=(cloudpickle.dumps(work), place, dict(os.environ), artifacts.STATE))
    with contextlib.chdir(ROOT):  # where the server, which the first one starts, finds what it imports beforehand
        one.start()
    return one


def _work(pickled: bytes, place: Path, environment: dict[str, str], state: Path) -> None:
    os.chdir(place)
    os.environ.clear()
    os.environ |= environment
    artifacts.STATE = state
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    work: Callable[[], Any] = cloudpickle.loads(pickled)
    work()


def _join(rank: int, count: int, port: int, work: Callable[[Processes], None]) -> None:
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    with distributed.joined(torch.device("cpu")) as ours:
        work(ours)
