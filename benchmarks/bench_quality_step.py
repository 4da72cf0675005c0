"""What a quality head adds to a training step: cr_fiqa and ig_fiqa against plain classification on the same images.

    OMP_NUM_THREADS=1 python benchmarks/bench_quality_step.py [--quick] [--nets demo,IR-50] [--rounds 5]

All objectives of one net take turns in one process, step by step, so that a busy machine slows all of them alike; a
ratio is the median over rounds of CPU seconds within a round. ig_fiqa as published passes a clean and an augmented view
of each image; it is compared with a training that passes both and learns recognition from the first alone, so that the
ratio is the quality head's own; what the second view itself costs stands in the row before it.

Ends with 1 where a quality head adds 5 % or more.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor

from stages.config.training import Config
from stages.core.losses.head import CosineHead, HeadOutput
from stages.core.losses.objective import Backbone, Objective
from stages.core.losses.sampler import Order
from stages.runtime import devices
from stages.training.distributed import Processes
from stages.training.step import Stepper

LIMIT = 1.05


@dataclass(frozen=True)
class Net:
    """A backbone, how many classes its head has, and images a step."""

    fields: dict[str, Any]
    classes: int
    batch_size: int
    repeats: int


NETS = {
    "demo": Net(
        {"units": [1, 1, 1, 1], "widths": [8, 16, 32, 64], "stem_stride": 2, "feature_dim": 128}, 300, 64, 8
    ),
    # CASIA-WebFace's number of classes
    "IR-50": Net(
        {"units": [3, 4, 14, 3], "widths": [64, 128, 256, 512], "stem_stride": 1, "feature_dim": 512}, 10_572, 8, 1
    ),
}


class BothViews(Objective):
    """Passes two views of each image and learns from the first: what ig_fiqa does without quality."""

    views = ("clean", "training")

    def forward(
        self, backbone: Backbone, head: CosineHead, views: Sequence[Tensor], label_B: Tensor, epoch: float
    ) -> HeadOutput:
        """Return the head's loss on the first view."""
        output: HeadOutput = head(backbone(torch.cat(list(views)))[: len(label_B)], label_B)
        return output


@dataclass
class Way:
    """One objective; ``against`` is the row it is compared with."""

    name: str
    objective: dict[str, Any]
    num_views: int
    against: str
    cpu: list[float] = field(default_factory=list)


def ways() -> list[Way]:
    """Return what is compared."""
    return [
        Way("classification", {"name": "classification"}, 1, "classification"),
        Way("cr_fiqa", {"name": "cr_fiqa"}, 1, "classification"),
        Way("ig_fiqa, clean view alone", {"name": "ig_fiqa", "augmented": False}, 1, "classification"),
        Way("two views, classification of the first", {"name": "classification"}, 2, "classification"),
        Way("ig_fiqa", {"name": "ig_fiqa"}, 2, "two views, classification of the first"),
    ]


def step_of(net: Net, way: Way) -> Callable[[], None]:
    """Return a function that takes one step."""
    config = Config.model_validate({
        "dataset": "none", "backbone": {"name": "iresnet", "style": "adaface", "dropout": 0.0, **net.fields},
        "head": {"name": "arcface", "margin": 0.5}, "objective": way.objective, "seed": 0,
        "augmentation": {"crop_probability": 0, "low_res_probability": 0, "photometric_probability": 0},
        "schedule": {"epochs": 1, "batch_size": net.batch_size, "learning_rate": 0.01},
    })  # fmt: skip
    stepper = Stepper(config, net.classes, Order(10**6, net.batch_size, 0), Processes())
    if way.num_views == 2 and way.objective["name"] == "classification":
        stepper.networks.objective = BothViews()
    generator = torch.Generator().manual_seed(0)
    shape = (way.num_views, net.batch_size, 112, 112, 3)
    image_VBHW3 = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    label_B = torch.randint(0, net.classes, (net.batch_size,), generator=generator)
    steps = iter(range(10**6))
    return lambda: void(stepper.advance(next(steps), image_VBHW3, label_B))


def void(output: HeadOutput) -> None:
    """Drop what a step returns."""


def measure(net: Net, rounds: int) -> list[Way]:
    """Let the objectives take turns."""
    compared = ways()
    steps = [step_of(net, way) for way in compared]
    for step in steps:
        step()
    for _ in range(rounds):
        spent = [0.0] * len(steps)
        for _ in range(net.repeats):
            for place, step in enumerate(steps):
                begin = time.process_time()
                step()
                spent[place] += time.process_time() - begin
        for way, seconds in zip(compared, spent, strict=True):
            way.cpu.append(seconds / net.repeats)
    return compared


def table(name: str, net: Net, compared: list[Way]) -> list[str]:
    """Print one net's rows; return which quality heads are over the limit."""
    by_name = {way.name: way for way in compared}
    over = []
    for way in compared:
        ratios = [a / b for a, b in zip(way.cpu, by_name[way.against].cpu, strict=True)]
        ratio = statistics.median(ratios)
        print(f"| {name}, {net.classes} classes, batch {net.batch_size} | {way.name} | "
              f"{1000 * statistics.median(way.cpu):.1f} | {ratio:.3f} ({min(ratios):.3f} to {max(ratios):.3f}) | "
              f"{way.against if way.against != way.name else ''} |")  # fmt: skip
        if way.objective["name"] != "classification" and ratio >= LIMIT:
            over.append(f"{name}, {way.name}: {ratio:.3f}")
    return over


def main() -> int:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--quick", action="store_true", help="the demo net alone, three rounds")
    options.add_argument("--nets", default="demo,IR-50", help=f"of {', '.join(NETS)}")
    options.add_argument("--rounds", type=int, default=5)
    arguments = options.parse_args()
    devices.keep_memory()
    torch.set_num_threads(1)
    names = ["demo"] if arguments.quick else arguments.nets.split(",")
    rounds = 3 if arguments.quick else arguments.rounds
    before = os.getloadavg()[0]
    print("| net | objective | ms CPU a step | ratio (least to greatest of the rounds) | against |")
    print("|---|---|--:|--:|---|")
    over = [line for name in names for line in table(name, NETS[name], measure(NETS[name], rounds))]
    print(f"\nOne thread, {rounds} rounds. torch {torch.__version__}, load average {before:.1f} before and "
          f"{os.getloadavg()[0]:.1f} after.")  # fmt: skip
    print("\n".join(f"5 % or more: {line}" for line in over))
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
