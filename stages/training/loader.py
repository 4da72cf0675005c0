"""Fills batches in loader processes, directly into shared memory: nothing is pickled or copied
between them but the list of what to read, and what is known of the images.

Shapes: V views, S slots (batches that the memory has room for), B batch.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

Items = Sequence[tuple[int, int]]
"""(epoch, position) of every image of a batch."""
F = TypeVar("F")
"""What is known of a batch's images, such as their labels."""
Fill = Callable[[NDArray[np.uint8], Items], F]
"""Draws a batch into an array of the batch's shape and returns what is known of it."""
PREFETCH = 2
"""Batches that each process may prepare ahead; two, so that one is ready while the other is drawn."""


def batches(
    fill: Fill[F], steps: Iterator[Items], shape: tuple[int, ...], workers: int
) -> Iterator[tuple[Tensor, F]]:
    """Yield one batch per step, in order: images uint8 of ``shape``, owned by the caller, and what ``fill`` returns.

    Raises:
        ValueError: what ``fill`` raises, in a process or here.
    """
    if workers:
        yield from _shared(fill, steps, shape, workers)
        return
    for items in steps:
        image_VBHW3 = np.empty(shape, np.uint8)
        known = fill(image_VBHW3, items)
        yield torch.from_numpy(image_VBHW3), known


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Return the values on the device; copies to a GPU go through pinned memory and do not block."""
    if device.type == "cuda":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


def _shared(
    fill: Fill[F], steps: Iterator[Items], shape: tuple[int, ...], workers: int
) -> Iterator[tuple[Tensor, F]]:
    # one more than may be under way: a slot is given out again while the caller's copy is still to be made
    num_slots = workers * PREFETCH + 1
    # anonymous memory, since containers often have but 64 MB of /dev/shm; forked processes have it at once
    memory = mmap.mmap(-1, num_slots * int(np.prod(shape)))
    image_SVBHW3 = np.frombuffer(memory, np.uint8).reshape(num_slots, *shape)
    loader: DataLoader[Any] = DataLoader(
        _Slots(fill, image_SVBHW3),
        batch_sampler=_Steps(steps, num_slots),
        num_workers=workers,
        prefetch_factor=PREFETCH,
        multiprocessing_context="fork",
        collate_fn=_whole,
        # its own, because a loader draws from it when it starts, and a resumed training starts one more
        generator=torch.Generator(),
    )
    for slot, known in loader:
        if isinstance(known, ValueError):
            raise known
        yield torch.from_numpy(image_SVBHW3[slot].copy()), known


class _Slots(Dataset[Any]):
    def __init__(self, fill: Fill[Any], image_SVBHW3: NDArray[np.uint8]) -> None:
        self.fill, self.image_SVBHW3 = fill, image_SVBHW3

    def __getitems__(self, task: tuple[int, Items]) -> tuple[int, Any]:
        """Fill a slot; torch's fetcher requires this name."""
        slot, items = task
        try:
            return slot, self.fill(self.image_SVBHW3[slot], items)
        except ValueError as error:
            # raised over there: torch would wrap its one sentence in the traceback of a process
            return slot, error


@dataclass(frozen=True)
class _Steps:
    steps: Iterator[Items]
    num_slots: int

    def __iter__(self) -> Iterator[Any]:
        return zip(cycle(range(self.num_slots)), self.steps, strict=False)


def _whole(batch: Any) -> Any:
    return batch
