"""Speed and memory of a training run: images per second, share of time that it waits for data, peak memory."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch

T = TypeVar("T")
GIB = 2**30


class Speed:
    """Counts images and the time of steps; time between steps, for validation or checkpoints, does not count."""

    def __init__(self, device: torch.device, clock: Callable[[], float] = time.perf_counter) -> None:
        self.device, self.clock = device, clock
        self.images, self.seconds, self.wait_s = 0, 0.0, 0.0
        self.peaks_gib: dict[str, float] = {}
        """Of processes that trained before this one and were stopped."""
        self._began: float | None = None
        self._before = (0, 0.0, 0.0)

    def over(self, batches: Iterable[T], images: int) -> Iterator[T]:
        """Yield batches of so many images, and measure how long each is waited for."""
        rest = iter(batches)
        while True:
            began = self.clock()
            try:
                batch = next(rest)
            except StopIteration:
                return
            self.wait_s += self.clock() - began
            self.images += images
            self._began = began
            yield batch
            self.pause()

    def pause(self) -> None:
        """End the time of the current step."""
        if self._began is not None:
            self.seconds += self.clock() - self._began
            self._began = None

    def lap(self) -> dict[str, float]:
        """Return the speed since the last call; on a GPU call it when the host has just waited for the device."""
        self.pause()
        now = self.images, self.seconds, self.wait_s
        images, seconds, wait_s = (new - old for new, old in zip(now, self._before, strict=True))
        self._before = now
        return {**_rates(images, seconds, wait_s), **self._peaks()}

    def summary(self) -> dict[str, float | None]:
        """Return the speed of the whole training and its peak memory; null without a GPU for what only a GPU has."""
        peaks: dict[str, float | None] = {"peak_memory_gib": None, "peak_device_memory_gib": None}
        return {**_rates(self.images, self.seconds, self.wait_s), **peaks, **self._peaks()}

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        self.pause()
        return {"images": self.images, "seconds": self.seconds, "wait_s": self.wait_s, "peaks_gib": self._peaks()}

    def load(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.images, self.seconds, self.wait_s = state["images"], state["seconds"], state["wait_s"]
        self.peaks_gib = dict(state["peaks_gib"])
        self._before = self.images, self.seconds, self.wait_s

    def _peaks(self) -> dict[str, float]:
        """Return the peak memory of this process, and of its GPU as PyTorch reserved it, in GiB."""
        peaks = {"peak_memory_gib": peak_memory_bytes() / GIB}
        if self.device.type == "cuda":
            peaks["peak_device_memory_gib"] = torch.cuda.max_memory_reserved(self.device) / GIB
        names = dict.fromkeys([*self.peaks_gib, *peaks])
        return {name: round(max(self.peaks_gib.get(name, 0.0), peaks.get(name, 0.0)), 4) for name in names}


def peak_memory_bytes(status: Path = Path("/proc/self/status")) -> int:
    """Return the largest resident memory that this process had, 0 where the kernel does not say.

    Not `getrusage`: its number begins with that of the process that started this program.
    """
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def _rates(images: float, seconds: float, wait_s: float) -> dict[str, float]:
    seconds = max(seconds, 1e-9)
    return {"images_per_s": round(images / seconds, 2), "data_wait": round(wait_s / seconds, 4)}
