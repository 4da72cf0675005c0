"""What a training run was computed with: Python, torch, CUDA, device, precision, and digests of the packages.

It is a file beside the weights and no dependency of DVC's: no weights are made again because a package changed.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import re
from pathlib import Path
from typing import Any

import torch

from stages.config.training import Compute
from stages.runtime import artifacts, gpu_lock
from stages.training.networks import autocast_type

FILE = "environment.json"
LOCK = Path("uv.lock")


def describe(device: torch.device, compute: Compute, processes: int) -> dict[str, Any]:
    """Return what this process computes with, as flat JSON; null where there is none.

    Args:
        device: that the training used.
        compute: its numerical settings; `auto` is resolved.
        processes: that shared the work.
    """
    cuda = device.type == "cuda"
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if cuda else None,  # type: ignore[no-untyped-call]
        "device": torch.cuda.get_device_name(device) if cuda else processor(Path("/proc/cpuinfo")),
        "driver": next((driver for (driver,) in gpu_lock.query("driver_version")), None) if cuda else None,
        "precision": str(autocast_type(compute.precision, device)).removeprefix("torch."),
        "matmul": compute.matmul if cuda else None,
        "deterministic": compute.deterministic or not cuda,
        "processes": processes,
        "uv_lock_sha256": artifacts.sha256(LOCK) if LOCK.is_file() else None,
        "packages_sha256": packages_digest(installed()),
    }


def processor(cpuinfo: Path) -> str:
    """Return the model of the CPU as the kernel has it, or its architecture."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.machine()


def installed() -> dict[str, str]:
    """Return the version of each installed distribution, by name as PyPI compares names."""
    found = ((one.metadata["Name"], one.version) for one in importlib.metadata.distributions())
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found if name}


def packages_digest(versions: dict[str, str]) -> str:
    """Return the SHA-256 of ``NAME==VERSION``, a line each, in the order of the names.

    >>> packages_digest({"b": "2", "a": "1"}) == packages_digest({"a": "1", "b": "2"})
    True
    """
    lines = "".join(f"{name}=={version}\n" for name, version in sorted(versions.items()))
    return hashlib.sha256(lines.encode()).hexdigest()
