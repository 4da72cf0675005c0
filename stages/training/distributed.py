"""The processes of one training run, which share its batches and classes; a single process by default.

Every launcher says the same five variables (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT), so that one
program runs on a CPU, a GPU, many GPUs and many machines: see docs/scale.md.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from stages.core.errors import InputError
from stages.runtime import program

PATIENCE = timedelta(hours=2)
"""How long processes wait for one that validates or writes for all."""
GRACE_S = 5.0
"""Seconds for the other processes to end after one has failed."""
END_S = 60.0
"""Seconds for a process to end after SIGTERM: it finishes its step and writes a checkpoint."""


@dataclass(frozen=True)
class Processes:
    """This process among those of its training run."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_first(self) -> bool:
        """Whether this process prints and writes for all."""
        return self.rank == 0

    def sum(self, value_N: Tensor) -> Tensor:
        """Return the sum over all processes; the argument is not changed."""
        if self.size == 1:
            return value_N
        total_N = value_N.detach().clone().to(self.device)
        dist.all_reduce(total_N)
        return total_N

    def any(self, *flags: bool) -> list[bool]:
        """Return for each flag whether any process sets it; the same answer everywhere."""
        if self.size == 1:
            return list(flags)
        return [bool(count) for count in self.sum(torch.tensor(flags, dtype=torch.int32)).tolist()]

    def wait(self) -> None:
        """Barrier: wait until all processes are here."""
        if self.size > 1:
            dist.barrier()


def rank_and_size() -> tuple[int, int]:
    """Return rank and world size from the launcher, (0, 1) without one.

    Raises:
        ValueError: it said something that is no pair of numbers.
    """
    given = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    if not all(text.isdigit() for text in given) or int(given[0]) >= int(given[1]):
        raise InputError(f"RANK and WORLD_SIZE should be numbers, the first less than the second, got {given}")
    return int(given[0]), int(given[1])


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """Join the other processes of this training run, and leave the group at the end.

    Raises:
        ValueError: several processes would share one GPU.
    """
    rank, size = rank_and_size()
    if size == 1:
        yield Processes(device=device)
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device.type == "cuda":
        if (device.index or 0) != local:
            raise InputError(f"process {local} of this machine should compute on cuda:{local}, got {device}")
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Processes(rank, size, device)
    finally:
        dist.destroy_process_group()


def wanted(configured: int) -> int:
    """Return the number of processes to start here: ``FACET_PROCS``, or the configuration's; 1 in a started process.

    Raises:
        ValueError: FACET_PROCS is no number of processes.
    """
    if "RANK" in os.environ:
        return 1
    given = os.environ.get("FACET_PROCS", str(configured))
    if not given.isdigit() or int(given) < 1:
        raise InputError(f"FACET_PROCS should be the number of processes, 1 or more, got {given!r}")
    return int(given)


def launch(module: str, arguments: Sequence[str], count: int) -> None:
    """Run ``python -m MODULE ARGUMENT ...`` in ``count`` processes of this machine until all end.

    They get the variables that torchrun would set. The first one's lines are shown as they come; another one's if it
    is the one that failed. (torchrun itself would put forty lines of its own around their one.)

    Raises:
        ValueError: one of them was killed.
        SystemExit: one of them failed, and has said why.
        Terminated: a signal ended this process, and those with it.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", module, *arguments]
    started = [_Started(command, rank, count, port) for rank in range(count)]
    try:
        while any(one.process.poll() is None for one in started) and not any(one.process.poll() for one in started):
            time.sleep(0.05)
        # those that lost a partner end by themselves, and may say less than the one that left them
        deadline = time.monotonic() + GRACE_S
        while any(one.process.poll() is None for one in started) and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        for one in started:
            one.stop()
        for one in started:
            one.end()
    codes = [one.process.returncode for one in started]
    if not any(codes):
        return
    culprit = next((rank for rank in range(count) if codes[rank] == 2), None)
    if culprit is None:
        culprit = next((rank for rank in range(count) if codes[rank] and not started[rank].was_stopped), 0)
    if culprit:
        sys.stderr.writelines(started[culprit].lines)
    if codes[culprit] < 0:
        name = signal.Signals(-codes[culprit]).name
        raise InputError(f"process {culprit} of {count} was killed by {name}: out of memory? Run again to resume")
    raise SystemExit(codes[culprit])


class _Started:
    """One of several processes, and its last lines."""

    def __init__(self, command: Sequence[str], rank: int, count: int, port: int) -> None:
        environment = {
            **os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        }  # fmt: skip
        # the kernel ends them when this process is killed
        self.process = subprocess.Popen(
            command, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=program.die_with_parent
        )
        self.lines: deque[str] = deque(maxlen=100)
        self.is_shown, self.was_stopped = rank == 0, False
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            for line in stream:
                if self.is_shown:
                    sys.stderr.write(line)
                    sys.stderr.flush()
                self.lines.append(line)

    def stop(self) -> None:
        """Send SIGTERM; the process may take time to write a checkpoint."""
        if self.process.poll() is None:
            self.was_stopped, self.is_shown = True, False
            self.process.terminate()

    def end(self) -> None:
        """Wait for the process, with a timeout."""
        try:
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.reader.join(1.0)
