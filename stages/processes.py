"""The processes of one training: those that torchrun started share its batches and classes; alone, there is one.

Every launcher says the same five variables (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT), so that one
program runs on a CPU, a GPU, many GPUs and many machines: see docs/scale.md.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor

from stages import program


@dataclass(frozen=True)
class Processes:
    """This process among those of its training."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_first(self) -> bool:
        """Whether this one speaks and writes for all."""
        return self.rank == 0

    def sum(self, value_N: Tensor) -> Tensor:
        """Return the sum over all processes; what was given is left as it is."""
        if self.size == 1:
            return value_N
        total_N = value_N.detach().clone().to(self.device)
        dist.all_reduce(total_N)
        return total_N

    def any(self, *flags: bool) -> list[bool]:
        """Return for each flag whether any process raises it: the same answer everywhere."""
        if self.size == 1:
            return list(flags)
        return [bool(count) for count in self.sum(torch.tensor(flags, dtype=torch.int32)).tolist()]

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.size > 1:
            dist.barrier()


def rank_and_size() -> tuple[int, int]:
    """Return what the launcher said of this process, (0, 1) where there is none.

    Raises:
        ValueError: it said something that is no pair of numbers.
    """
    given = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    if not all(text.isdigit() for text in given) or int(given[0]) >= int(given[1]):
        raise ValueError(f"RANK and WORLD_SIZE should be numbers, the first less than the second, got {given}")
    return int(given[0]), int(given[1])


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """Meet the other processes of this training, and part from them at the end.

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
            raise ValueError(f"process {local} of this machine should compute on cuda:{local}, got {device}")
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(rank, size, device)
    finally:
        dist.destroy_process_group()


def wanted(configured: int) -> int:
    """Return how many processes to start here: ``FACET_PROCS``, or the configuration's; 1 in one that was started.

    Raises:
        ValueError: FACET_PROCS is no number of processes.
    """
    if "RANK" in os.environ:
        return 1
    given = os.environ.get("FACET_PROCS", str(configured))
    if not given.isdigit() or int(given) < 1:
        raise ValueError(f"FACET_PROCS should be the number of processes, 1 or more, got {given!r}")
    return int(given)


def launch(module: str, arguments: Sequence[str], count: int) -> None:
    """Run ``python -m MODULE ARGUMENT ...`` in ``count`` processes of this machine by torchrun, to its end.

    Raises:
        ValueError: one of them failed; it has said why.
        Terminated: a signal ended this process, and those with it.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    # torchrun says for each process in many lines that it failed; the process has said why in one
    environment = {**os.environ, "LOGLEVEL": "CRITICAL", "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    # the kernel ends torchrun, and that its processes, when this one is killed
    with subprocess.Popen(
        [*command, "-m", module, *arguments], env=environment, preexec_fn=program.die_with_parent
    ) as torchrun:
        try:
            code = torchrun.wait()
        except program.Terminated:
            torchrun.terminate()
            torchrun.wait()
            raise
    if code:
        raise ValueError(f"a process of {count} failed (exit code {code}): what it said stands above")
