"""Leases a GPU for a stage that was given no device, with the same locks as `facet run`: docs/decisions/0012.

So `dvc repro` beside `facet run`, or two of either, never share a GPU by accident. The lock is the kernel's: it
is gone with this process, however that ends. pipeline/devices/leases.py takes the same locks for
stages that `facet run` starts, and passes the device on in ``FACET_DEVICE``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from stages.runtime import locks, progress

POLL_S = 1.0

_held: list[int] = []


def take() -> None:
    """Wait for a GPU and make it the only one visible to CUDA; call this before CUDA is initialised.

    Nothing happens where a lease or a person has said the device (``FACET_DEVICE``), where torchrun shares
    them out (``RANK``), without a GPU, or a second time.
    """
    if _held or os.environ.get("FACET_DEVICE") or os.environ.get("RANK"):
        return
    gpus = visible(os.environ.get("CUDA_VISIBLE_DEVICES"), list_gpus())
    said = False
    while gpus:
        for entry, identity in gpus:
            descriptor = locks.try_lock(lease_folder() / f"{identity}.lock")
            if descriptor is not None:
                _held.append(descriptor)
                os.environ |= {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": entry}
                return
        if not said:
            progress.say(f"waiting for a GPU: {', '.join(entry for entry, _ in gpus)} taken by other stages")
            said = True
        time.sleep(POLL_S)


def visible(mask: str | None, gpus: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the GPUs that an outer CUDA_VISIBLE_DEVICES allows, each as its entry there and its lock name.

    CUDA itself stops reading at the first entry that it does not know.

    >>> two = [("0", "GPU-aa"), ("1", "GPU-bb")]
    >>> visible(None, two), visible("1", two), visible("GPU-aa,7,1", two), visible("", two)
    ([('0', 'GPU-aa'), ('1', 'GPU-bb')], [('1', 'GPU-bb')], [('GPU-aa', 'GPU-aa')], [])
    """
    known = {index: identity for index, identity in gpus} | {identity: identity for _, identity in gpus}
    if mask is None:
        return list(gpus)
    found: list[tuple[str, str]] = []
    for entry in (part.strip() for part in mask.split(",")):
        if not gpus or (entry not in known and not entry.startswith(("GPU-", "MIG-"))):
            break
        found.append((entry, known.get(entry, f"gpu-{entry}")))
    return found


def list_gpus() -> list[tuple[str, str]]:
    """Return index and UUID of every NVIDIA GPU of this machine; none without a driver."""
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    rows = (line.split(",") for line in answer.stdout.splitlines() if "," in line)
    return [] if answer.returncode else [(index.strip(), identity.strip()) for index, identity in rows]


def lease_folder() -> Path:
    """Return the machine's folder for locks of GPUs: ``FACET_LEASES``, or one in the temporary folder."""
    return Path(os.environ.get("FACET_LEASES") or Path(tempfile.gettempdir()) / "facet-leases")
