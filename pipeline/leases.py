"""Leases of devices, held by the kernel: a `flock` per device, gone with its holders, however they died.

A GPU's lock lies in a folder of the whole machine, under the GPU's own identity, so that two checkouts
share GPUs; the slots of a CPU are each checkout's own affair. Prefect's concurrency limits count, but do
not say *which* device, and free what a killed holder had only after minutes.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

POLL_S = 0.1


@dataclass(frozen=True)
class Device:
    """Something that one stage at a time may use."""

    name: str
    """What a person reads: ``gpu:0``, ``cpu:1``."""
    visible: str | None = None
    """Its value for CUDA_VISIBLE_DEVICES; None for a CPU slot."""
    identity: str = ""
    """What its lock is called: the same for one GPU, however a mask names it."""

    @property
    def environment(self) -> dict[str, str]:
        """Return what a stage on this device finds in its environment."""
        if self.visible is None:
            return {"FACET_DEVICE": self.name}
        # CUDA numbers by speed unless told otherwise; nvidia-smi, whose numbers we use, by bus
        order = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
        return order | {"FACET_DEVICE": self.name, "CUDA_VISIBLE_DEVICES": self.visible}


@dataclass
class Lease:
    """A device that is ours until ``release``, and while another process has the file descriptor."""

    device: Device
    descriptor: int = field(repr=False)

    def release(self) -> None:
        """Give the device back; a second time does nothing."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def lease_folder() -> Path:
    """Return the machine's folder for leases of GPUs: ``FACET_LEASES``, or one in the temporary folder."""
    return Path(os.environ.get("FACET_LEASES") or Path(tempfile.gettempdir()) / "facet-leases")


def try_lease(device: Device, folder: Path) -> Lease | None:
    """Return a lease of ``device``, or None if another holds it; never waits."""
    descriptor = _open(folder / f"{device.identity or device.name.replace(':', '-')}.lock")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return Lease(device, descriptor)


def _open(path: Path) -> int:
    """Open a lock file that other users may have made; reading is enough for `flock`."""
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.parent.chmod(0o1777)
    while True:
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            # O_CREAT alone on another user's file fails in a sticky folder (fs.protected_regular)
            try:
                os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
            except FileExistsError:
                continue


class Pool:
    """The devices of this run: GPUs for stages that need one, CPU slots for the rest (all, without a GPU)."""

    def __init__(
        self, gpus: Sequence[Device], num_slots: int, slot_folder: Path, gpu_folder: Path | None = None
    ) -> None:
        if num_slots < 1:
            raise ValueError(f"at least one job is needed, got {num_slots}")
        self.gpus = [(gpu, gpu_folder or lease_folder()) for gpu in gpus]
        # a slot keeps a CPU-only stage from seeing the GPUs that others hold
        hidden = "" if gpus else None
        self.slots = [(Device(f"cpu:{i}", hidden), slot_folder) for i in range(num_slots)]

    def try_lease(self, needs_device: bool) -> Lease | None:
        """Return a lease of any device that fits, or None while all are taken."""
        for device, folder in self.gpus if needs_device and self.gpus else self.slots:
            if lease := try_lease(device, folder):
                return lease
        return None

    def lease(self, needs_device: bool, timeout_s: float | None = None) -> Lease:
        """Wait for a device that fits.

        Raises:
            TimeoutError: none came free within ``timeout_s``.
        """
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        while (lease := self.try_lease(needs_device)) is None:
            if until_s is not None and time.monotonic() > until_s:
                raise TimeoutError(f"no device came free within {timeout_s} s")
            time.sleep(POLL_S)
        return lease


def find_gpus(
    environment: Mapping[str, str] | None = None, list_gpus: Callable[[], list[tuple[str, str]]] | None = None
) -> list[Device]:
    """Return the GPUs that this process may use: those that an outer CUDA_VISIBLE_DEVICES lets through.

    >>> two = lambda: [("0", "GPU-aa"), ("1", "GPU-bb")]
    >>> [device.visible for device in find_gpus({}, two)]
    ['0', '1']
    >>> [device.identity for device in find_gpus({"CUDA_VISIBLE_DEVICES": "GPU-bb"}, two)]
    ['GPU-bb']
    """
    mask = (os.environ if environment is None else environment).get("CUDA_VISIBLE_DEVICES")
    if mask is not None and not mask.strip():
        return []
    there = (list_gpus or _nvidia_smi)()
    identity_of = {index: uuid for index, uuid in there} | {uuid: uuid for _, uuid in there}
    wanted = [index for index, _ in there] if mask is None else _masked(mask, identity_of)
    return [Device(f"gpu:{entry}", entry, identity_of.get(entry, f"gpu-{entry}")) for entry in wanted]


def _masked(mask: str, known: Mapping[str, str]) -> list[str]:
    """Return the devices that a mask names; CUDA itself stops reading at the first one that is not there."""
    entries: list[str] = []
    for entry in (part.strip() for part in mask.split(",")):
        # an abbreviated UUID or a MIG instance is CUDA's to know
        if entry not in known and not entry.startswith(("GPU-", "MIG-")):
            break
        entries.append(entry)
    return entries if known else []


def _nvidia_smi() -> list[tuple[str, str]]:
    """Return (index, UUID) of every NVIDIA GPU of this machine; none where there is no driver."""
    if shutil.which("nvidia-smi") is None:
        return []
    answer = subprocess.run(
        ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if answer.returncode:
        return []
    rows = (line.split(",") for line in answer.stdout.splitlines() if "," in line)
    return [(index.strip(), uuid.strip()) for index, uuid in rows]
