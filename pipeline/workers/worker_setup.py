"""Decides which devices of this machine get a worker, and starts the workers; does not import Prefect."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.base import environment
from pipeline.devices import leases
from pipeline.devices.leases import Device
from pipeline.servers import daemons
from stages.core.errors import OperationError, UnknownNameError
from stages.runtime.gpu_lock import lease_folder

READY_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Post:
    """The settings of a worker: device, threads and workspace."""

    root: Path
    device: Device
    folder: Path
    """Folder of the device's lock."""
    threads: int
    """CPU threads for a stage."""

    @property
    def state_folder(self) -> Path:
        """Return the folder for files that only this worker uses."""
        return ready_file(self.root, self.device.name).parent


def devices(cpu_workers: int | None) -> list[str]:
    """Return the devices that get a worker: every GPU, and this many CPU slots (one, if there is no GPU)."""
    gpus = [gpu.name for gpu in leases.find_gpus()]
    number = cpu_workers if cpu_workers is not None else int(not gpus)
    return gpus + [f"cpu:{i}" for i in range(number)]


def post(root: Path, wanted: str | None, threads: int | None) -> Post:
    """Return the settings of the worker for the device ``wanted``.

    Raises:
        LookupError: there is no such device; the message lists those there are.
    """
    gpus = {gpu.name: gpu for gpu in leases.find_gpus()}
    if wanted is None and len(gpus) > 1:
        raise UnknownNameError(f"several devices: choose one with `--device`: {', '.join(gpus)}, or cpu:0")
    name = wanted or next(iter(gpus), "cpu:0")
    name = name if ":" in name else f"gpu:{name}"
    share = threads or max(1, environment.num_cores() // max(1, len(gpus)))
    if name in gpus:
        return Post(root, gpus[name], lease_folder(), share)
    if not (name.startswith("cpu:") and name.removeprefix("cpu:").isdecimal()):
        raise UnknownNameError(f"no device {wanted!r}: choose from {', '.join([*gpus, 'cpu:0', 'cpu:1'])}, ...")
    # as in leases.Pool: a stage that needs no GPU does not see those that others hold
    slot = Device(name, "" if gpus else None)
    return Post(root, slot, environment.state_folder(root) / "leases", share)


def up(root: Path, pool: str, wanted: Sequence[str], api_url: str, say: Callable[[str], None]) -> None:
    """Start a worker for each device that has none, and wait until they take stages.

    Raises:
        RuntimeError: one ended, or was not ready in time; the message names its log.
    """
    cpu = sum(name.startswith("cpu:") for name in wanted)
    started = {}
    for device in wanted:
        name = f"{daemons.WORKER} {device}"
        if name in daemons.known(root):
            continue
        ready_file(root, device).unlink(missing_ok=True)
        threads = max(1, environment.num_cores() // cpu) if device.startswith("cpu:") else None
        command = [sys.executable, "-m", "pipeline.cli", "worker", "--device", device, "--pool", pool]
        command += ["--threads", str(threads)] if threads else []
        settings = environment.for_children() | {"PREFECT_API_URL": api_url}
        started[device] = daemons.add(root, name, command, settings)
    until_s = time.monotonic() + READY_TIMEOUT_S
    for device, service in started.items():
        while not ready_file(root, device).is_file():
            if not service.alive or time.monotonic() > until_s:
                what = "is not ready" if service.alive else "ended at start-up"
                raise OperationError(f"the worker on {device} {what}: see {daemons.log_of(root, service.name)}")
            time.sleep(0.1)
        say(f"{daemons.WORKER:8} {device} takes stages from the work pool {pool}")


def ready_file(root: Path, device: str) -> Path:
    """Return the file that a worker writes when it has joined its pool."""
    return environment.state_folder(root) / "workers" / device.replace(":", "-") / "ready.json"
