"""The device that a stage computes on: the leased one, or else a GPU if there is one."""

from __future__ import annotations

import ctypes
import os
import sys

import torch

from stages.core.errors import InputError
from stages.runtime import gpu_lock


def choose() -> torch.device:
    """Return the device of ``FACET_DEVICE`` (cpu, cuda, cuda:1, ...), or else a GPU if there is one.

    One of several processes (LOCAL_RANK, which launchers set) gets its own of the GPUs that it sees.

    Raises:
        ValueError: it names no device.
    """
    gpu_lock.take()
    device, local = _named(), os.environ.get("LOCAL_RANK")
    if str(device) == "cuda" and local is not None:
        return torch.device("cuda", int(local))
    return device


def _named() -> torch.device:
    given = os.environ.get("FACET_DEVICE")
    if not given:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if given.startswith("gpu:"):
        # a lease names them as the machine does; CUDA_VISIBLE_DEVICES shows those only
        return torch.device("cuda")
    if given.startswith("cpu:"):
        # a slot's name, as a lease has it; torch counts one CPU, and refuses to load a checkpoint to another
        return torch.device("cpu")
    try:
        return torch.device(given)
    except RuntimeError as error:
        raise InputError(f"FACET_DEVICE should be cpu, cuda or cuda:0, got {given!r}") from error


def prepare(threads: int) -> None:
    """Set the number of CPU threads of this process, overriding OMP_NUM_THREADS, and keep freed memory.

    Sums are split among threads, so that their number decides last bits.
    """
    torch.set_num_threads(threads)
    keep_memory()


def keep_memory() -> None:
    """Make the C library keep memory that a step frees: the next step needs it, and page faults are slow.

    1.2 times as fast for a training on a CPU; does nothing where there is no glibc.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3  # names of malloc.h
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(mmap_threshold, 2**25)
