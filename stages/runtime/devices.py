"""The device that a stage computes on: the leased one, or else a GPU if there is one."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

import torch

from stages.core.errors import InputError, OperationError
from stages.runtime import gpu_lock, numerics

OLDEST_DRIVER = {11: "450", 12: "525", 13: "580"}
"""By major version of CUDA (NVIDIA, CUDA Compatibility, minor version compatibility)."""


def choose() -> torch.device:
    """Return the device of ``FACET_DEVICE`` (cpu, cuda, cuda:1, ...), or else a GPU if there is one.

    One of several processes (LOCAL_RANK, which launchers set) gets its own of the GPUs that it sees; where a launcher
    shows each process one GPU, that one. From then on a GPU computes float32 as IEEE.

    Raises:
        InputError: it names no device, or none that is here.
        OperationError: torch cannot use the machine's GPU; a stage never computes on the CPU instead unless told to.
    """
    gpu_lock.take()
    device = without_lease()
    if device.type == "cuda":
        numerics.set_matmul("ieee")
    return device


def without_lease() -> torch.device:
    """Return the device that `choose` would return if it had its lease; for reports, not for computing."""
    device = _named()
    if device.type != "cuda":
        return device
    if not torch.cuda.is_available():
        raise OperationError(_unseen())
    count, local = torch.cuda.device_count(), os.environ.get("LOCAL_RANK")
    if str(device) == "cuda" and local is not None:
        device = torch.device("cuda", int(local) if count > 1 else 0)
    if (device.index or 0) >= count:
        raise InputError(
            f"process {local or 0} of this machine should compute on {device}, and there are {count} GPUs here: start "
            f"at most {count} processes on it (`processes`, FACET_PROCS or --nproc-per-node), or change FACET_DEVICE"
        )
    _check_card(device)
    return device


def _named() -> torch.device:
    given = os.environ.get("FACET_DEVICE")
    if not given:
        mask = os.environ.get("CUDA_VISIBLE_DEVICES")
        # where torch does not see those that are here, `choose` refuses
        here = torch.cuda.is_available() or gpu_lock.visible(mask, gpu_lock.list_gpus())
        return torch.device("cuda" if here else "cpu")
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


def _unseen() -> str:
    """Return why torch may see none of the machine's GPUs, with the versions that must fit, and what to do."""
    drivers = [driver for (driver,) in gpu_lock.query("driver_version")]
    here = f"{len(drivers)} with NVIDIA driver {drivers[0]}" if drivers else "none that nvidia-smi lists"
    cuda = torch.version.cuda
    built = f"for CUDA {cuda}" if cuda else "without CUDA"
    if not cuda:
        remedy = "install torch with CUDA"
    else:
        needed = OLDEST_DRIVER.get(int(cuda.split(".")[0]))
        needs = f" (CUDA {cuda} needs {needed} or later)" if needed else ""
        remedy = f"update the driver{needs}, or install torch for an older CUDA"
    return (
        f"torch {torch.__version__}, built {built}, sees no GPU; here: {here}. {remedy[0].upper()}{remedy[1:]} "
        "(docs/scale.md, Drivers and cards), or hide the GPUs to compute on the CPU: CUDA_VISIBLE_DEVICES= (empty)"
    )


def _check_card(device: torch.device) -> None:
    """Refuse a card that this torch has no code for: its first kernel would fail."""
    built = [name for name in torch.cuda.get_arch_list() if name.startswith(("sm_", "compute_"))]
    major, minor = torch.cuda.get_device_capability(device)
    if built and not any(runs_on(name, major, minor) for name in built):
        raise OperationError(
            f"{torch.cuda.get_device_name(device)} has compute capability {major}.{minor}, and torch "
            f"{torch.__version__} is built for {', '.join(built)}: install torch for an older CUDA "
            "(docs/scale.md, Drivers and cards)"
        )


def runs_on(architecture: str, major: int, minor: int) -> bool:
    """Return whether code for an architecture runs on a card of this compute capability.

    Machine code (sm) runs on later cards of its generation, except what is marked a or f; PTX (compute) on all later.

    >>> runs_on("sm_86", 8, 9), runs_on("sm_86", 8, 0), runs_on("sm_75", 8, 0), runs_on("compute_90", 12, 0)
    (True, False, False, True)
    """
    kind, _, number = architecture.partition("_")
    plain = number.rstrip("af")
    made = int(plain[:-1]), int(plain[-1])
    if kind == "compute":
        return made <= (major, minor)
    return made == (major, minor) if number != plain else made[0] == major and made[1] <= minor


def num_cores(quota_file: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Return the number of CPU cores that this process may use, by its affinity and its container's quota."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    try:
        quota, period = quota_file.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))


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
