"""What all parts share: sizes, device, the roofline's card, timing; and how a measurement that fails is survived."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.results import Row
from stages.config.training import Config
from stages.runtime import devices, gpu_errors
from stages.training.cost import H100, Card

MEMORY_FULL = "out of memory"


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    nets: dict[str, dict[str, Any]]
    classes: tuple[int, ...]
    batch: int
    repeats: int
    """Steps that are timed together."""
    head_classes: int
    head_batches: tuple[int, ...]
    chunk_bits: tuple[int, ...]
    images: int
    """Of the training set that is written."""
    side: int
    """Of the matrices and a quarter of the channels that rates are measured with."""
    net: dict[str, Any]
    """The small network that is stopped and resumed."""
    stopped: dict[str, Any]
    """Its schedule."""


def _ir(units: list[int]) -> dict[str, Any]:
    return {"name": "iresnet", "style": "adaface", "units": units, "widths": [64, 128, 256, 512], "stem_stride": 1,
            "feature_dim": 512, "dropout": 0.4}  # fmt: skip


TINY = {"name": "iresnet", "style": "adaface", "units": [1, 1, 1, 1], "widths": [4, 4, 8, 8], "stem_stride": 2,
        "feature_dim": 16, "dropout": 0.2}  # fmt: skip
DEMO = TINY | {"widths": [8, 16, 32, 64], "feature_dim": 128}

FULL = Sizes(
    {"IR-50": _ir([3, 4, 14, 3]), "IR-100": _ir([3, 13, 30, 3])}, (85_742, 257_489), 512, 10, 10_000, (512, 4096),
    (20, 22, 24, 26, 28), 16_384, 8192, DEMO, {"epochs": 4, "batch_size": 128, "learning_rate": 0.05},
)  # fmt: skip
DRY = Sizes(
    {"tiny": TINY}, (60, 200), 8, 2, 100, (8, 32), (10, 12), 64, 64, TINY,
    {"epochs": 8, "batch_size": 8, "learning_rate": 0.05},
)  # fmt: skip


@dataclass
class Bench:
    """The surroundings of a measurement."""

    sizes: Sizes
    folder: Path
    """For files that a part makes."""
    card: Card = H100
    """Whose roofline is expected: by the rates that part `machine` found here."""

    @cached_property
    def device(self) -> torch.device:
        """The device, leased on first use; a part that starts stages must not use it."""
        return devices.choose()

    @property
    def is_gpu(self) -> bool:
        """Whether a GPU computes."""
        return self.device.type == "cuda"

    def wait(self) -> None:
        """Wait until the device has done what it was given."""
        if self.is_gpu:
            torch.cuda.synchronize(self.device)

    def seconds(self, work: Callable[[], object], repeats: int | None = None, rounds: int = 3) -> float:
        """Return the median time of one call, after calls that warm up."""
        count = repeats or self.sizes.repeats
        for _ in range(2):
            work()
        taken = []
        for _ in range(rounds):
            self.wait()
            begin = time.perf_counter()
            for _ in range(count):
                work()
            self.wait()
            taken.append((time.perf_counter() - begin) / count)
        return statistics.median(taken)

    def config(
        self, net: dict[str, Any], batch: int, head: dict[str, Any] | None = None, **changes: Any
    ) -> Config:
        """Return the configuration of a training run without augmentation."""
        return Config.model_validate({
            "dataset": "bench", "backbone": net, "head": head or {"name": "adaface", "margin": 0.4, "h": 0.333},
            "augmentation": {"crop_probability": 0, "low_res_probability": 0, "photometric_probability": 0},
            "schedule": {"epochs": 1, "batch_size": batch, "learning_rate": 0.1}, "seed": 1, **changes,
        })  # fmt: skip


@dataclass(frozen=True)
class Item:
    """One measurement of a part."""

    what: str
    measure: Callable[[], Row]


def rows(part: str, items: Iterable[Item], until_s: float) -> Iterator[Row]:
    """Measure one item after another, whatever happens to those before.

    A full memory, a missing compiler or another error is the result of its item. After an error that leaves the GPU
    unusable for this process, and after ``until_s`` of ``time.monotonic``, the others are named as not run.
    """
    reason = ""
    for item in items:
        reason = reason or ("no time left" if time.monotonic() > until_s else "")
        if reason:
            yield Row(part=part, what=item.what, verdict=f"not run: {reason}")
            continue
        begin = time.perf_counter()
        try:
            row = item.measure()
        except Exception as error:  # whatever it is, the next measurement may be better off
            text = explain(error)
            row = Row(verdict=f"failed: {text}")
            if text.startswith("the GPU failed"):
                reason = "the GPU is in error since"
        _free_memory()
        yield replace(row, part=part, what=item.what, seconds=round(time.perf_counter() - begin, 1))


def explain(error: BaseException) -> str:
    """Return an error as one line."""
    told = gpu_errors.sentence(error, MEMORY_FULL) if isinstance(error, RuntimeError) else None
    first = (str(error).strip().splitlines() or [""])[0]
    return " ".join((told or f"{type(error).__name__}: {first}").split())[:300]


def is_memory_full(error: RuntimeError) -> bool:
    """Return whether an error is that of a full GPU."""
    return (gpu_errors.sentence(error, MEMORY_FULL) or "").endswith(MEMORY_FULL)


def halving(batch: int, measure: Callable[[int], Row]) -> Row:
    """Measure with a batch, or with half of it, a quarter, ... if the GPU's memory is too small.

    Raises:
        RuntimeError: it is too small for 16 images, or something else is wrong.
    """
    while True:
        try:
            row = measure(batch)
        except RuntimeError as error:
            if not is_memory_full(error) or batch <= 16:
                raise
            batch //= 2
        else:
            return row
        _free_memory()  # outside of the handler, whose traceback holds what was allocated


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
