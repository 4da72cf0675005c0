"""Report on what a stage would compute with here: GPUs, driver, torch's CUDA, NCCL, cores, and what would be used."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from stages.core.errors import InputError, OperationError
from stages.runtime import gpu_lock, gpu_rest, locks

if TYPE_CHECKING:
    import torch


def show(console: Console) -> None:
    """Print a table of what there is and what would be used."""
    table = Table(title="this machine", title_justify="left", show_header=False)
    for name, value in look():
        table.add_row(name, value.replace("[", r"\["))
    console.print(table)


def look() -> Iterator[tuple[str, str]]:
    """Yield name and value of each line; nothing is leased, and no GPU gets a CUDA context but to name it."""
    import torch

    from stages.runtime import devices
    from stages.training.dataset import num_workers

    yield "GPUs", _gpus()
    drivers = [driver for (driver,) in gpu_lock.query("driver_version")]
    yield "NVIDIA driver", drivers[0] if drivers else "none"
    yield "torch", _torch(torch.version.cuda)
    yield "NCCL", _nccl()
    try:
        device = devices.without_lease()
    except (InputError, OperationError) as error:
        yield "would use", f"nothing: {error}"
        return
    yield "cores", f"{devices.num_cores()}; {num_workers(device)} loader processes for each that trains"
    yield "would use", _use(device)


def _gpus() -> str:
    fields = ("index", "name", "memory.free", "memory.total", "uuid")
    listed = gpu_lock.query(*fields)
    if not listed:
        return "none that nvidia-smi lists"
    mask = os.environ.get("CUDA_VISIBLE_DEVICES")
    allowed = dict(gpu_lock.visible(mask, [(row[0], row[4]) for row in listed]))
    lines = []
    for index, name, free, total, uuid in listed:
        hidden = "" if uuid in allowed.values() else f", hidden by CUDA_VISIBLE_DEVICES={mask}"
        rests = ", rests after a fault" if gpu_rest.is_resting(gpu_lock.lease_folder(), uuid) else ""
        lines.append(f"{index}: {name}, {free} of {total} free{', leased' if _is_leased(uuid) else ''}{rests}{hidden}")
    return "\n".join(lines)


def _is_leased(uuid: str) -> bool:
    path = gpu_lock.lease_folder() / f"{uuid}.lock"
    if not path.is_file():
        return False
    descriptor = locks.try_lock(path)
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is None


def _torch(cuda: str | None) -> str:
    import torch

    if cuda is None:
        return f"{torch.__version__}, built without CUDA"
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    cards = ", ".join(torch.cuda.get_arch_list()) or "no card that it sees"
    return f"{torch.__version__}, CUDA {cuda}, cuDNN {cudnn}, for {cards}"


def _nccl() -> str:
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_nccl_available()):
        return "none; processes on CPUs exchange through gloo"
    import torch.cuda.nccl

    return ".".join(str(part) for part in torch.cuda.nccl.version())  # type: ignore[no-untyped-call]


def _use(device: torch.device) -> str:
    import torch

    from stages.training.networks import autocast_type

    precision = str(autocast_type("auto", device)).removeprefix("torch.")
    name = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
    return f"{device}{name}; precision auto is {precision}"
