"""Runs a function in several processes that meet as torchrun's would, without the seconds that torchrun takes."""

from __future__ import annotations

import os
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Callable

import cv2
import torch

from stages import processes
from stages.processes import Processes


def run(count: int, work: Callable[[Processes], None], timeout_s: float = 100.0) -> None:
    """Run ``work`` in ``count`` forked processes; raise if one fails or takes too long."""
    # ends OpenCV's threads, if another test had some: a forked child would wait for them for ever
    cv2.setNumThreads(1)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pids = [fork(lambda rank=rank: _join(rank, count, port, work)) for rank in range(count)]
    deadline = time.monotonic() + timeout_s
    codes: dict[int, int] = {}
    while len(codes) < count and time.monotonic() < deadline and not any(codes.values()):
        for pid in set(pids) - set(codes):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                codes[pid] = os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    for pid in set(pids) - set(codes):
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    assert list(codes.values()) == [0] * count, f"exit codes {codes}"


def fork(work: Callable[[], None]) -> int:
    """Run ``work`` in a child; return its pid. What it raises is printed and makes exit code 1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads, in newer Pythons
        pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        torch.set_num_threads(1)
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _join(rank: int, count: int, port: int, work: Callable[[Processes], None]) -> None:
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    with processes.joined(torch.device("cpu")) as ours:
        work(ours)
