"""`facet plan`: prints what a training run needs on N GPUs: memory by item, images a second, hours and disk.

facet plan adaface --gpus 8 --classes 2059906 --images 42474557
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.config import params
from stages.config.training import Config
from stages.core.errors import InputError, UnknownNameError
from stages.runtime import artifacts, program
from stages.training import cost
from stages.training.checkpoints import KEPT
from stages.training.dataset import POSITIONS

EXAMPLES = """\
No GPU is used: networks are run without numbers, and each operator takes the time of its arithmetic or its memory
traffic on the card that is named. Expect 40 % more or less, and fewer images a second where data come slowly.

examples:
  facet plan adaface
  facet plan adaface --gpus 8 --classes 2059906 --images 42474557
  facet plan adaface --gpus 64 --json"""


@dataclass(frozen=True)
class Planned:
    """What a run needs."""

    config: Config
    gpus: int
    classes: int
    images: int
    step: cost.Cost

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.config.schedule.epochs * (self.images // self.config.schedule.batch_size)

    def as_tree(self) -> dict[str, Any]:
        """Return all numbers, in bytes, seconds and images."""
        batch, card = self.config.schedule.batch_size, cost.H100
        numbers = self.step.memory["backbone: weights, gradient, momentum"] // 3
        centres = self.classes * self.step.memory["class centres"] // -(-self.classes // self.gpus)
        schedule = self.config.schedule
        copies = 2 + (schedule.optimiser == "adamw") + (schedule.ema_decay is not None)
        models = 1 + (schedule.ema_decay is not None)
        return {
            "card": card.name, "gpus": self.gpus, "classes_per_gpu": -(-self.classes // self.gpus),
            "memory_bytes": {**self.step.memory, "total": self.step.total_bytes},
            "fits": self.step.total_bytes <= card.memory_bytes, "steps": self.steps,
            "images_per_s": batch / self.step.step_s, "steps_per_s": 1 / self.step.step_s,
            "hours": self.steps * self.step.step_s / 3600,
            "head_share": self.step.head_s / (self.step.head_s + self.step.backbone_s),
            # positions are mapped once per machine; a process keeps its part of an epoch's order
            "host_bytes": {
                "positions": len(POSITIONS) * 8 * self.images, "order": 8 * self.images,
                "own_order": 8 * self.images // self.gpus,
            },
            # weights and what belongs to them of each kept one, and one being written
            "disk_bytes": {
                "checkpoints": (KEPT + 1) * copies * (numbers + centres), "model": models * (numbers + centres),
            },
        }  # fmt: skip


def main(arguments: argparse.Namespace) -> None:
    """Reckon and print.

    Raises:
        UnknownNameError: params.yaml has no such run.
        InputError: a number is missing, or the batch cannot be shared evenly.
    """
    runs = params.load().runs
    if arguments.run not in runs:
        raise UnknownNameError(f"params.yaml has no run {arguments.run}: there are {', '.join(runs)}")
    config = runs[arguments.run].train
    gpus = arguments.gpus or config.processes
    if gpus < 1 or config.schedule.batch_size % gpus:
        raise InputError(
            f"{gpus} GPUs cannot share a batch of {config.schedule.batch_size} evenly: choose a divisor, or change "
            "schedule.batch_size"
        )
    classes, images = size_of(config.dataset, arguments.classes, arguments.images)
    made = Planned(config, gpus, classes, images, cost.cost(config, classes, gpus))
    tree = made.as_tree()
    print(json.dumps(tree, indent=2) if arguments.json else "\n".join(as_lines(arguments.run, made, tree)))


def size_of(dataset: str, classes: int | None, images: int | None) -> tuple[int, int]:
    """Return the numbers of classes and images: those given, else those that `unpack` found.

    Raises:
        InputError: one is neither given nor known.
    """
    path: Path = artifacts.unpacked_folder(dataset) / "card.json"
    card = artifacts.read_json(path) if path.is_file() else {}
    classes, images = classes or card.get("num_classes"), images or card.get("records")
    if not classes or not images:
        raise InputError(
            f"the numbers of classes and images of {dataset} are not known, since {path} is missing: pass --classes "
            f"and --images, or run `dvc repro unpack@{dataset}`"
        )
    return classes, images


def as_lines(run: str, made: Planned, tree: dict[str, Any]) -> list[str]:
    """Return the text that is printed."""
    gib, host = 1 << 30, tree["host_bytes"]
    size, epochs = made.config.schedule.batch_size, made.config.schedule.epochs
    lines = [
        f"{run} on {made.gpus} x {tree['card']}: {made.images:,} images of {made.classes:,} classes, batch {size}",
        f"classes per GPU    {tree['classes_per_gpu']:,}",
        "memory per GPU, GiB",
        *(f"  {item:46} {value / gib:7.2f}" for item, value in tree["memory_bytes"].items()),
        f"  {'of the card' if tree['fits'] else 'MORE than the card has':46} {cost.H100.memory_bytes / gib:7.2f}",
        f"steps              {tree['steps']:,} in {epochs} epochs",
        f"images a second    {tree['images_per_s']:,.0f} expected in {tree['steps_per_s']:.2f} steps; the head takes "
        f"{tree['head_share']:.0%} of a step",
        f"by the roofline    {cost.H100.stated}, times {cost.OVERHEAD}; without optimiser and exchange",
        f"hours              {tree['hours']:,.1f}",
        f"host memory, GiB   {host['positions'] / gib:.2f} of positions per machine, {host['own_order'] / gib:.2f} of "
        f"order per process, {host['order'] / gib:.2f} when an epoch begins",
        f"disk, GiB          {tree['disk_bytes']['checkpoints'] / gib:.1f} of checkpoints, "
        f"{tree['disk_bytes']['model'] / gib:.1f} of the model",
    ]
    if not tree["fits"]:
        lines.append("raise compute.chunks, lower schedule.batch_size, or take more GPUs")
    return lines


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    options = argparse.ArgumentParser(
        prog="facet plan", description=(__doc__ or "").splitlines()[0], epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    options.add_argument("run", help="name under `runs` in params.yaml")
    options.add_argument("--gpus", type=int, help="GPUs, over all machines; default: `processes` of the run")
    options.add_argument("--classes", type=int, help="identities; default: those of the unpacked data set")
    options.add_argument("--images", type=int, help="training images; default: those of the unpacked data set")
    options.add_argument("--json", action="store_true", help="print JSON")
    return options


def run(argv: Sequence[str] | None = None) -> int:
    """Return the exit code."""
    return program.run(main, parser(), argv)


if __name__ == "__main__":
    sys.exit(run())
