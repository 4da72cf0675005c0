"""One training step of a backbone on a CPU: memory order, compiling, threads and precision against each other.

    python benchmarks/bench_training_step.py [--quick] [--nets demo,IR-18] [--threads 1,2] [--compile-all]

All ways of one net take turns in one process, so that a busy machine slows all of them alike; ratios are medians of
the ratios within a round. Wall and CPU time of forward, backward and SGD through stages/training/step.py, in images a
second; the head has 300 classes. Compiling is timed apart: first step less a later one, and how many steps pay for it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from stages.config.training import Config
from stages.core.losses.sampler import Order
from stages.runtime import devices
from stages.training.distributed import Processes
from stages.training.step import Stepper

CLASSES = 300
NETS: dict[str, tuple[dict[str, Any], int]] = {
    "demo": ({"units": [1, 1, 1, 1], "widths": [8, 16, 32, 64], "stem_stride": 2, "feature_dim": 128}, 64),
    "width 16": ({"units": [2, 2, 2, 2], "widths": [16, 32, 64, 128], "stem_stride": 2, "feature_dim": 128}, 64),
    "IR-18": ({"units": [2, 2, 2, 2], "widths": [64, 128, 256, 512], "stem_stride": 1, "feature_dim": 512}, 8),
}


@dataclass(frozen=True)
class Way:
    """One configuration of the same step."""

    name: str
    compute: dict[str, Any]
    threads: int = 1


@dataclass
class Timed:
    """Seconds of one way, by round."""

    wall: list[float]
    cpu: list[float]
    first_s: float


def ways(threads: list[int], *, compiled: bool, small: bool) -> Iterator[Way]:
    """Yield what is compared; the first is the reference."""
    for count in threads:
        yield Way("contiguous", {"channels_last": False}, count)
        yield Way("channels_last", {"channels_last": True}, count)
    if compiled:
        yield Way("contiguous, compiled", {"channels_last": False, "compile": True})
    if not small:
        return
    if compiled:
        yield Way("channels_last, compiled", {"channels_last": True, "compile": True})
    yield Way("channels_last, bf16", {"channels_last": True, "precision": "bf16"})
    yield Way("channels_last, 4 chunks", {"channels_last": True, "chunks": 4})


def step_of(net: dict[str, Any], batch_size: int, way: Way) -> Callable[[], None]:
    """Return a function that takes one step."""
    config = Config.model_validate({
        "dataset": "none", "backbone": {"name": "iresnet", "style": "adaface", "dropout": 0.0, **net},
        "head": {"name": "adaface", "margin": 0.4, "h": 0.333}, "compute": way.compute, "seed": 0,
        "augmentation": {"crop_probability": 0, "low_res_probability": 0, "photometric_probability": 0},
        "schedule": {"epochs": 1, "batch_size": batch_size, "learning_rate": 0.01},
    })  # fmt: skip
    torch.set_num_threads(way.threads)
    stepper = Stepper(config, CLASSES, Order(10**6, batch_size, 0), Processes())
    generator = torch.Generator().manual_seed(0)
    image_VBHW3 = torch.randint(0, 256, (1, batch_size, 112, 112, 3), dtype=torch.uint8, generator=generator)
    label_B = torch.randint(0, CLASSES, (batch_size,), generator=generator)
    steps = iter(range(10**6))

    def step() -> None:
        torch.set_num_threads(way.threads)
        stepper.advance(next(steps), image_VBHW3, label_B)

    return step


def timed(step: Callable[[], None], repeats: int) -> tuple[float, float]:
    """Return wall and CPU seconds of one step, the mean of a few."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        step()
    return (time.perf_counter() - wall) / repeats, (time.process_time() - cpu) / repeats


def measure(net: dict[str, Any], batch_size: int, compared: list[Way], rounds: int, repeats: int) -> list[Timed]:
    """Let the ways take turns."""
    steps, results = [], []
    for way in compared:
        step = step_of(net, batch_size, way)
        start = time.process_time() + children_s()
        step()
        results.append(Timed([], [], time.process_time() + children_s() - start))
        step()
        steps.append(step)
    for _ in range(rounds):
        for step, result in zip(steps, results, strict=True):
            wall, cpu = timed(step, repeats)
            result.wall.append(wall)
            result.cpu.append(cpu)
    return results


def children_s() -> float:
    """Return the CPU seconds of programs that have been started and have ended: the compiler."""
    times = os.times()
    return times.children_user + times.children_system


def table(name: str, batch_size: int, compared: list[Way], results: list[Timed]) -> None:
    """Print one net's rows."""
    reference = results[0]
    for way, result in zip(compared, results, strict=True):
        cpu = statistics.median(a / b for a, b in zip(reference.cpu, result.cpu, strict=True))
        wall = statistics.median(a / b for a, b in zip(reference.wall, result.wall, strict=True))
        step_s = statistics.median(result.cpu)
        pays = ""
        if way.compute.get("compile"):
            saved_s = statistics.median(reference.cpu) - step_s
            cost_s = result.first_s - step_s
            pays = f"{cost_s:.0f} s, {cost_s / saved_s:.0f} steps" if saved_s > 0 else f"{cost_s:.0f} s, never"
        rate = batch_size / statistics.median(result.wall)
        print(f"| {name}, {batch_size} | {way.name} | {way.threads} | {rate:.1f} | {batch_size / step_s:.1f} | "
              f"{wall:.2f} | {cpu:.2f} | {pays} |")  # fmt: skip


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--quick", action="store_true", help="the demo net alone, nothing compiled, two rounds")
    options.add_argument("--nets", default="demo,IR-18", help=f"of {', '.join(NETS)}")
    options.add_argument("--threads", default="1,2")
    options.add_argument("--compile-all", action="store_true", help="not the demo net alone: minutes for each other")
    arguments = options.parse_args()
    devices.keep_memory()
    # compiled afresh, and by children that are waited for: what it costs is part of the question
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    cache = tempfile.TemporaryDirectory(prefix="facet-compile-")
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache.name
    names = ["demo"] if arguments.quick else arguments.nets.split(",")
    rounds = 2 if arguments.quick else 3
    before = os.getloadavg()[0]
    print("| net, batch | way | threads | images/s | images/CPU s | x wall | x CPU | compiling costs, pays after |")
    print("|---|---|---|---|---|---|---|---|")
    for name in names:
        net, batch_size = NETS[name]
        compiled = arguments.compile_all or (name == "demo" and not arguments.quick)
        threads = [int(count) for count in arguments.threads.split(",")]
        compared = list(ways(threads, compiled=compiled, small=name != "IR-18"))
        table(name, batch_size, compared, measure(net, batch_size, compared, rounds, 1 if name == "IR-18" else 4))
    print(f"\nx: times as fast as the first row of the net, medians over {rounds} rounds. torch {torch.__version__}, "
          f"load average {before:.1f} before and {os.getloadavg()[0]:.1f} after.")  # fmt: skip
    cache.cleanup()


if __name__ == "__main__":
    main()
