"""Device leases, held by the kernel: one `flock` per device, released when its holders end, however they die.

A GPU's lock lies in a folder of the whole machine, under the GPU's own identity, so that two checkouts share
GPUs, and plain `dvc repro` with them (docs/decisions/0012 says which locks). The
slots of a CPU are each checkout's own affair. Prefect's concurrency limits count, but do not say *which* device,
and free what a killed holder had only after minutes.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.devices.fairness import Turns
from stages.core.errors import InputError
from stages.runtime import gpu_rest, locks
from stages.runtime.gpu_lock import lease_folder, visible
from stages.runtime.gpu_lock import list_gpus as _list_gpus

POLL_S = 0.1


@dataclass(frozen=True)
class Device:
    """A device that one stage at a time may use, or several that have agreed to share it."""

    name: str
    """Display name: ``gpu:0``, ``cpu:1``."""
    visible: str | None = None
    """Its value for CUDA_VISIBLE_DEVICES; None for a CPU slot."""
    identity: str = ""
    """Name of its lock: the same for one GPU, however a mask names it; of several GPUs their names with commas."""
    share: int | None = None
    """Number of its share of the device, from 0; None for the whole device."""

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment variables of a stage on this device."""
        # to torch there is one CPU: it cannot load a checkpoint to cpu:1
        kind = "cpu" if self.name.startswith("cpu:") else self.name
        names = {"FACET_DEVICE": kind, "FACET_SLOT": self.name}
        if self.visible is None:
            return names
        # CUDA numbers by speed unless told otherwise; nvidia-smi, whose numbers we use, by bus
        order = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
        held = {gpu_rest.HELD: self.identity} if self.identity else {}
        return order | names | held | {"CUDA_VISIBLE_DEVICES": self.visible}


@dataclass
class Lease:
    """A device reserved for us until ``release``, and as long as another process has the file descriptors."""

    device: Device
    descriptors: list[int] = field(repr=False)

    def release(self) -> None:
        """Return the device to the pool; a second call does nothing."""
        while self.descriptors:
            os.close(self.descriptors.pop())

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def try_lease(device: Device, folder: Path) -> Lease | None:
    """Return a lease of ``device``, or None if another holds it or it rests after a fault; never waits.

    Who wants a whole device locks its file alone. Who wants a share locks that file together with other sharers,
    and the share's own file alone: so nobody shares with one who counts on having it whole.
    """
    if device.identity and gpu_rest.is_resting(folder, device.identity):
        return None
    name = device.identity or device.name.replace(":", "-")
    lease = Lease(device, [])
    wanted = [(f"{name}.lock", fcntl.LOCK_EX)]
    if device.share is not None:
        wanted = [(f"{name}.lock", fcntl.LOCK_SH), (f"{name}.share{device.share}.lock", fcntl.LOCK_EX)]
    for file, kind in wanted:
        descriptor = locks.try_lock(folder / file, kind)
        if descriptor is None:
            lease.release()
            return None
        lease.descriptors.append(descriptor)
    return lease


class Account:
    """The GPUs or slots that a run or a worker holds, and its turn at them."""

    def __init__(self, folder: Path) -> None:
        self.turns = Turns(folder)
        self.held: list[Lease] = []

    def take(self, find: Callable[[], Lease | None]) -> Lease | None:
        """Return the lease that `find` finds, or None while it finds none or other runs go first."""
        if not self._may_take():
            return None
        lease = find()
        self._note(lease)
        return lease

    def stop_waiting(self) -> None:
        """Withdraw the request for a device, so that others need not wait for this one."""
        self.turns.stop_waiting()

    def _may_take(self) -> bool:
        held = [lease for lease in self.held if lease.descriptors]
        if len(held) < len(self.held):
            self.turns.released()
        self.held = held
        return self.turns.is_ours()

    def _note(self, lease: Lease | None) -> None:
        """Record what was found: a run that holds nothing and finds nothing waits, visibly to others."""
        if lease is not None:
            self.held.append(lease)
            self.turns.stop_waiting()
        elif not self.held:
            self.turns.wait()


class Pool:
    """Device pool of this run: GPUs for stages that need one, CPU slots for the rest (all, without a GPU)."""

    def __init__(
        self,
        gpus: Sequence[Device],
        num_slots: int,
        slot_folder: Path,
        gpu_folder: Path | None = None,
        per_device: int = 1,
    ) -> None:
        """List the devices.

        Args:
            gpus: those that may be used.
            num_slots: stages at a time that need no GPU.
            slot_folder: for the locks of the slots.
            gpu_folder: for the locks of the GPUs; default: the machine's.
            per_device: stages at a time on one GPU.
        """
        for count, what in ((num_slots, "job"), (per_device, "stage per device")):
            if count < 1:
                raise InputError(f"at least one {what} is needed, got {count}")
        shares: Sequence[int | None] = [None] if per_device == 1 else range(per_device)
        # the second share of any GPU comes after the first of all
        self.gpus = [(replace(gpu, share=share), gpu_folder or lease_folder()) for share in shares for gpu in gpus]
        # a slot keeps a CPU-only stage from seeing the GPUs that others hold
        hidden = "" if gpus else None
        self.slots = [(Device(f"cpu:{i}", hidden), slot_folder) for i in range(num_slots)]
        self.kinds = {True: Account(gpu_folder or lease_folder()), False: Account(slot_folder)}

    def try_lease(self, needs_device: bool, num_gpus: int = 1) -> Lease | None:
        """Return a lease of any device that fits, or None while all are taken or other runs go first.

        Args:
            needs_device: a GPU, where there is one; else a slot of the CPU.
            num_gpus: how many at once; all there are, where there are fewer.
        """
        on_gpu = needs_device and bool(self.gpus)
        kind = self.kinds[on_gpu]
        if on_gpu and num_gpus > 1:
            return kind.take(lambda: self._try_several(num_gpus))
        devices = self.gpus if on_gpu else self.slots
        return kind.take(lambda: next(filter(None, (try_lease(device, folder) for device, folder in devices)), None))

    def stop_waiting(self) -> None:
        """Withdraw the request for a device, so that others need not wait for this run."""
        for kind in self.kinds.values():
            kind.stop_waiting()

    def _try_several(self, count: int) -> Lease | None:
        """Return whole GPUs as one lease: processes of one training run wait for one another and cannot share."""
        whole = {device.identity: (replace(device, share=None), folder) for device, folder in self.gpus}
        held: list[Lease] = []
        for device, folder in whole.values():
            if len(held) < min(count, len(whole)) and (lease := try_lease(device, folder)):
                held.append(lease)
        if len(held) < min(count, len(whole)):
            for lease in held:
                lease.release()
            return None
        visible = ",".join(str(lease.device.visible) for lease in held)
        identities = ",".join(lease.device.identity for lease in held)
        return Lease(Device(f"gpu:{visible}", visible, identities), [fd for lease in held for fd in lease.descriptors])

    def lease(self, needs_device: bool, timeout_s: float | None = None) -> Lease:
        """Wait for a device that fits.

        Raises:
            TimeoutError: none came free within ``timeout_s``.
        """
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        while (lease := self.try_lease(needs_device)) is None:
            if until_s is not None and time.monotonic() > until_s:
                self.stop_waiting()
                raise TimeoutError(f"no device was released within {timeout_s} s")
            time.sleep(POLL_S)
        return lease


def find_gpus(
    environment: Mapping[str, str] | None = None, list_gpus: Callable[[], list[tuple[str, str]]] | None = None
) -> list[Device]:
    """Return the GPUs that this process may use: those that an outer CUDA_VISIBLE_DEVICES allows.

    >>> two = lambda: [("0", "GPU-aa"), ("1", "GPU-bb")]
    >>> [device.visible for device in find_gpus({}, two)]
    ['0', '1']
    >>> [device.identity for device in find_gpus({"CUDA_VISIBLE_DEVICES": "GPU-bb"}, two)]
    ['GPU-bb']
    """
    mask = (os.environ if environment is None else environment).get("CUDA_VISIBLE_DEVICES")
    if mask is not None and not mask.strip():
        return []
    return [Device(f"gpu:{entry}", entry, identity) for entry, identity in visible(mask, (list_gpus or _list_gpus)())]


def num_jobs(asked: int | None, num_cores: int, per_device: int = 1) -> int:
    """Return the default number of stages to run at a time: one per core, and what fits on the GPUs."""
    return asked or len(find_gpus()) * per_device + num_cores
