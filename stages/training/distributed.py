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
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta

import psutil
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from stages.core.errors import InputError, OperationError
from stages.runtime import gpu_lock, program

PATIENCE = timedelta(hours=2)
"""How long processes wait for one that validates or writes for all."""
GRACE_S = 5.0
"""Seconds for the other processes to end after one has failed."""
END_S = 60.0
"""Seconds for a process to end after SIGTERM: it finishes its step and writes a checkpoint."""
STUCK_S = 10.0
"""Seconds for a process to end after SIGTERM when another has failed: alone it can write none."""
STOPPED_S = 60.0
"""Seconds that a process may be stopped (SIGSTOP, a debugger) while the others wait for it."""
LOOK_S = 2.0
"""Seconds between looks at whether a process failed, maybe on another machine."""
_POLL_S = 0.05
FAILED = "failed"
"""Key in the processes' store."""


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

    def alike(self, number: int) -> bool:
        """Return whether all processes pass the same number, of at most 62 bits; the same answer everywhere."""
        if self.size == 1:
            return True
        ends_2 = torch.tensor([number, -number], device=self.device)
        dist.all_reduce(ends_2, dist.ReduceOp.MAX)
        high, low = ends_2.tolist()
        return bool(high == -low)

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
    """Join the other processes of this training run, and leave the group together with them at the end.

    A process that fails leaves at once: NCCL's farewell would wait for the others, and they for it. The others end
    too, those on other machines within a minute.

    Raises:
        InputError: several processes would share one GPU.
    """
    rank, size = rank_and_size()
    if size == 1:
        yield Processes(device=device)
        return
    store, _, _ = next(iter(rendezvous("env://", timeout=PATIENCE)))
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
        _check_gpus_differ(store, rank, size, device)
    dist.init_process_group(
        "nccl" if on_gpu else "gloo", store=PrefixStore("group", store), rank=rank, world_size=size,
        timeout=PATIENCE, device_id=device if on_gpu else None,
    )  # fmt: skip
    try:
        with _ending_with_others(store):
            yield Processes(rank, size, device)
            # the first one may write for minutes after the others: nobody leaves before
            dist.barrier()
    except BaseException:
        program.leave_at_once()
        raise
    dist.destroy_process_group()


def _check_gpus_differ(store: Store, rank: int, size: int, device: torch.device) -> None:
    """Refuse two processes on one GPU, whatever number each gives it; all processes refuse alike."""
    store.set(f"gpu/{rank}", str(torch.cuda.get_device_properties(device).uuid))
    first: dict[bytes, int] = {}
    for other in range(size):
        other_of = first.setdefault(store.get(f"gpu/{other}"), other)
        if other_of != other:
            raise InputError(
                f"processes {other_of} and {other} would share one GPU: each needs its own; start fewer processes "
                "(`processes`, FACET_PROCS, --nproc-per-node), or have the launcher show each another GPU"
            )


@contextmanager
def _ending_with_others(store: Store) -> Iterator[None]:
    """Tell the other processes when this one fails in the block, and end this one when another has failed.

    It may be waiting for that one in a kernel of NCCL, where neither a signal nor an exception reaches it.
    """
    over = threading.Event()
    threading.Thread(target=_follow_others, args=[store.clone(), over], daemon=True).start()  # type: ignore[attr-defined]
    try:
        yield
    except Exception:
        with suppress(RuntimeError):  # of a store that went with its process
            store.set(FAILED, "1")
        raise
    finally:
        over.set()


def _follow_others(store: Store, over: threading.Event) -> None:
    while not over.wait(LOOK_S):
        try:
            failed = store.check([FAILED])
        except RuntimeError:  # the process that kept it is gone
            failed = True
        # most notice by themselves, and say more
        if failed and not over.wait(GRACE_S):
            sys.stderr.write("error: another process of this training run failed\n")
            sys.stderr.flush()
            os._exit(1)


def launch(module: str, arguments: Sequence[str], count: int) -> None:
    """Run ``python -m MODULE ARGUMENT ...`` in ``count`` processes of this machine until all end.

    They get the variables that torchrun would set. The first one's lines are shown as they come; another one's if it
    is the one that failed. (torchrun itself would put forty lines of its own around their one.)

    Raises:
        ValueError: one of them was killed.
        OperationError: one of them is stopped, and the others wait for it.
        SystemExit: one of them failed, and has said why.
        Terminated: a signal ended this process, and those with it.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", module, *arguments]
    started = [_Started(command, rank, count, port) for rank in range(count)]
    end_s = END_S
    asleep = _Asleep(started)
    try:
        while any(one.process.poll() is None for one in started) and not any(one.process.poll() for one in started):
            asleep.look()
            time.sleep(_POLL_S)
        # those that lost a partner end by themselves, and may say less than the one that left them
        deadline = time.monotonic() + GRACE_S
        while any(one.process.poll() is None for one in started) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        end_s = STUCK_S
    except OperationError:
        end_s = STUCK_S
        raise
    finally:
        for one in started:
            one.stop()
        for one in started:
            one.end(end_s)
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


class _Asleep:
    """Notices a process that is stopped: it neither ends nor fails, and the others would wait for it for hours."""

    def __init__(self, started: Sequence[_Started]) -> None:
        self.started = started
        self.looks = [0] * len(started)

    def look(self) -> None:
        """Count how long each process is stopped, by looks: while this process is stopped too, none passes.

        Raises:
            OperationError: one is stopped for too long.
        """
        for rank, one in enumerate(self.started):
            self.looks[rank] = self.looks[rank] + 1 if _is_stopped(one.process.pid) else 0
            if self.looks[rank] * _POLL_S >= STOPPED_S:
                raise OperationError(
                    f"process {rank} of {len(self.started)} (pid {one.process.pid}) is stopped for {STOPPED_S:g} s, by "
                    "SIGSTOP or a debugger, and the others wait for it: all were ended; run again to resume"
                )


def _is_stopped(pid: int) -> bool:
    with suppress(psutil.Error):
        return psutil.Process(pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    return False


class _Started:
    """One of several processes, and its last lines."""

    def __init__(self, command: Sequence[str], rank: int, count: int, port: int) -> None:
        environment = {
            **os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        }  # fmt: skip
        # the kernel ends them when this process is killed
        self.process = subprocess.Popen(
            command, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=program.die_with_parent,
            pass_fds=gpu_lock.held(),
        )  # fmt: skip
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

    def end(self, patience_s: float) -> None:
        """Wait for the process so long, then kill it."""
        try:
            self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.reader.join(1.0)
