"""A process of a training run that fails says why and leaves; the others do not wait for it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stages.training import distributed
from stages.training.distributed import Processes
from tests.stages import ranks
from tests.support import ROOT

ONE_FAILS = """
import argparse, signal, sys, time
import torch
from stages.core.errors import InputError
from stages.runtime import program
from stages.training import distributed

def farewell():
    print("farewell", flush=True)
    time.sleep(1000)  # as NCCL's, for processes that will never come

distributed.dist.destroy_process_group = farewell
distributed.LOOK_S, distributed.GRACE_S = 0.1, 0.2

def main(arguments):
    with distributed.joined(torch.device("cpu")) as ours:
        ours.wait()
        if ours.rank == 1:
            raise {error}
        # as in a kernel of NCCL: no signal reaches it
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        time.sleep(1000)

sys.exit(program.run(main, argparse.ArgumentParser()))
"""


INPUT = "InputError('record 7: no image')", "error: record 7: no image"
MEMORY = "MemoryError('Unable to allocate 9.31 GiB')", "error: there is no memory left (Unable to allocate 9.31 GiB)"
GPU_MEMORY = "torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 20.00 GiB.')", "error: the GPU's memory is full (CUDA out of memory"


def start(error: str) -> list[subprocess.Popen[str]]:
    """Start two processes as launchers of two machines would: nothing ends one because of the other."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1]), "WORLD_SIZE": "2"}
    command, pipe = [sys.executable, "-c", ONE_FAILS.replace("{error}", error)], subprocess.PIPE
    return [
        subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **address, "RANK": str(rank)}, text=True, stdout=pipe, stderr=pipe
        )
        for rank in range(2)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("error", "sentence"), [INPUT, MEMORY, GPU_MEMORY], ids=["input", "memory", "gpu memory"])
def test_a_process_that_fails_says_why_and_ends_and_so_do_those_that_wait_for_it(error: str, sentence: str):
    started = start(error)
    try:
        ended = [process.communicate(timeout=100) for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [1, 2]
    assert ended[1][1].startswith(sentence)
    assert ended[1][1].count("\n") == 1
    assert ended[0][1] == "error: another process of this training run failed\n"
    assert "farewell" not in ended[0][0] + ended[1][0]


def test_nobody_leaves_while_the_first_process_writes(tmp_path: Path):
    def work(ours: Processes) -> None:
        leave = distributed.dist.destroy_process_group

        def watched() -> None:
            assert (tmp_path / "model").exists()
            leave()

        distributed.dist.destroy_process_group = watched
        if ours.is_first:
            time.sleep(0.3)
            (tmp_path / "model").touch()

    ranks.run(2, work)
