"""Leases GPUs for a stage that was given no device, with the same locks as `facet run`: docs/decisions/0012.

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

from stages.core.errors import InputError, OperationError
from stages.runtime import gpu_rest, locks, progress

POLL_S = 1.0
SMI_S = 60.0
"""How long `nvidia-smi` may take; with many GPUs and no persistence daemon it needs seconds."""

_held: list[int] = []


def processes(configured: int) -> int:
    """Return how many processes a training run starts on this machine, a GPU each where there are GPUs.

    The one rule for `facet run`, which leases so many, and for the stage, which starts them: ``FACET_PROCS``, else
    the configuration's; 1 in a process that a launcher has started (``RANK``).

    Raises:
        InputError: FACET_PROCS is no number of processes.
    """
    if "RANK" in os.environ:
        return 1
    given = os.environ.get("FACET_PROCS", str(configured))
    if not given.isdigit() or int(given) < 1:
        raise InputError(f"FACET_PROCS should be the number of processes, 1 or more, got {given!r}")
    return int(given)


def take(count: int = 1) -> None:
    """Wait for ``count`` GPUs, all or none, and make them the only ones visible to CUDA; call before CUDA starts.

    Nothing is taken where a lease or a person has said the device (``FACET_DEVICE``), where torchrun shares
    them out (``RANK``), without a GPU, or a second time.

    Raises:
        InputError: there are fewer than ``count``.
    """
    if _held or os.environ.get("RANK"):
        return
    if given := os.environ.get("FACET_DEVICE"):
        if given.startswith("gpu:"):
            _check_number(count, given.removeprefix("gpu:").split(","), "its lease has")
        return
    gpus = visible(os.environ.get("CUDA_VISIBLE_DEVICES"), list_gpus())
    if gpus:
        _check_number(count, [entry for entry, _ in gpus], "this machine shows")
    said = False
    while gpus:
        if taken := _try_take(gpus, count):
            names = dict(gpus)
            os.environ |= {
                "CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(taken),
                gpu_rest.HELD: ",".join(names[entry] for entry in taken),
            }  # fmt: skip
            return
        if not said:
            what = "a GPU" if count == 1 else f"{count} GPUs"
            resting = [entry for entry, identity in gpus if gpu_rest.is_resting(lease_folder(), identity)]
            rest = f", {', '.join(resting)} rests after a fault" if resting else ""
            taken_by_others = ", ".join(entry for entry, _ in gpus if entry not in resting) or "none"
            progress.say(f"waiting for {what}: {taken_by_others} taken by other stages{rest}")
            said = True
        time.sleep(POLL_S)


def held() -> tuple[int, ...]:
    """Return the descriptors of the locks: a process that inherits them holds the GPUs too."""
    return tuple(_held)


def _check_number(count: int, entries: Sequence[str], has: str) -> None:
    if count > len(entries):
        raise InputError(
            f"{count} processes need a GPU each, and {has} {len(entries)} ({', '.join(entries)}): set `processes` in "
            f"the run to {len(entries)} or less, or FACET_PROCS={len(entries)}; the weights are the same up to rounding"
        )


def _try_take(gpus: Sequence[tuple[str, str]], count: int) -> list[str]:
    """Lock ``count`` of the GPUs and return their entries; none if fewer are free."""
    taken: list[str] = []
    for entry, identity in gpus:
        if gpu_rest.is_resting(lease_folder(), identity):
            continue
        if len(taken) < count and (descriptor := locks.try_lock(lease_folder() / f"{identity}.lock")) is not None:
            _held.append(descriptor)
            taken.append(entry)
    if len(taken) == count:
        return taken
    while _held:
        os.close(_held.pop())
    return []


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
    return [(index, identity) for index, identity in query("index", "uuid")]


def query(*fields: str) -> list[list[str]]:
    """Return what `nvidia-smi` reports of each GPU, a value per field; nothing without a driver.

    Raises:
        OperationError: it does not answer.
    """
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=SMI_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise OperationError(f"nvidia-smi did not answer within {SMI_S:.0f} s: its driver or a GPU hangs") from error
    rows = [[value.strip() for value in line.split(",")] for line in answer.stdout.splitlines()]
    return [] if answer.returncode else [row for row in rows if len(row) == len(fields)]


def lease_folder() -> Path:
    """Return the machine's folder for locks of GPUs: ``FACET_LEASES``, or one in the temporary folder."""
    return Path(os.environ.get("FACET_LEASES") or Path(tempfile.gettempdir()) / "facet-leases")
