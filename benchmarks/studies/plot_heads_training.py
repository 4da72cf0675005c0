"""Trains every head on the synthetic demo set and draws all training curves in one picture.

    python benchmarks/studies/plot_heads_training.py FOLDER [--heads adaface,arcface] [--epochs 8] [--out PICTURE]

FOLDER has data/demo and data/unpacked/demo (`dvc repro unpack@demo` in a clone). Everything but the head is the demo
profile's. A head that has its curve in FOLDER/results/curves is not trained again, so that they can be made one by one.
About 2 minutes a head on one core.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import matplotlib.pyplot as plt
import yaml

from stages import train_backbone
from stages.config.training import Config
from stages.runtime import devices, plugins
from stages.runtime.merge import merge
from stages.training import loop
from stages.training.checkpoints import Checkpoints
from stages.training.dataset import open_records

ROOT = Path(__file__).resolve().parents[2]
HEADS: dict[str, dict[str, Any]] = {
    "adaface": {"margin": 0.4, "h": 0.333},
    "arcface": {"margin": 0.5},
    "cosface": {"margin": 0.35},
    "curricularface": {"margin": 0.5},
    "magface": {"min_norm": 1.0, "max_norm": 25.0, "norm_weight": 5.0},
    "mv_softmax": {"kind": "am", "margin": 0.35},
    "softmax": {},
}
"""Published margins; MagFace's norms are those that a last batch norm without a scale leaves possible."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("folder", type=Path)
    options.add_argument("--heads", default=",".join(plugins.names("heads")))
    options.add_argument("--epochs", type=int, default=8)
    options.add_argument("--out", type=Path, default=ROOT / "docs/images/heads-training.png")
    arguments = options.parse_args()
    out = arguments.out.resolve()
    os.chdir(arguments.folder)
    devices.prepare(1)
    curves = {head: curve(head, arguments.epochs) for head in arguments.heads.split(",")}
    draw(curves, out)


def curve(head: str, epochs: int) -> list[dict[str, float]]:
    """Return what every epoch came to, from the file where there is one."""
    path = Path("results/curves") / f"{head}-{epochs}.csv"
    if not path.is_file():
        train_backbone.write_curve(path, train(head, epochs))
    with path.open() as stream:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(stream)]


def train(head: str, epochs: int) -> list[dict[str, float]]:
    """Train with the demo profile and look at the LFW-like set after every epoch."""
    profile = yaml.safe_load((ROOT / "profiles/demo.yaml").read_text())["defaults"]
    for section in ("benchmarks", "quality"):
        profile.pop(section, None)
    own = {
        "dataset": "demo", "head": {"name": head, **HEADS.get(head, {})},
        "schedule": {"epochs": epochs}, "validation": {"every_epochs": 1, "sets": ["lfw"], "fusion": "none"},
    }  # fmt: skip
    config = Config.model_validate(merge(profile, own))
    training = loop.Training(config, open_records("demo"), validate=train_backbone.validation(config))
    checkpoints = Checkpoints(f"curve-{head}-{epochs}")
    training.run(checkpoints, head)
    checkpoints.clear()
    return training.history


def draw(curves: dict[str, list[dict[str, float]]], out: Path) -> None:
    """Draw loss, training accuracy and accuracy on unseen pairs, by epoch."""
    figure, axes = plt.subplots(1, 3, figsize=(14, 4.4), constrained_layout=True)
    panels = [
        ("loss", "training loss, each head its own (the margin rises until epoch 6)", 1.0),
        ("accuracy", "training images nearest their own centre, %", 100.0),
        ("validation_lfw", "pairs of unseen people right, %", 100.0),
    ]
    for axis, (name, title, unit) in zip(axes, panels, strict=True):
        for number, (head, rows) in enumerate(curves.items()):
            axis.plot(
                [row["epoch"] for row in rows], [unit * row[name] for row in rows],
                label=head, color=f"C{number}", marker="osD^v<>"[number % 7], markersize=4,
            )  # fmt: skip
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("epoch")
        axis.grid(alpha=0.3)
    axes[1].legend(fontsize=8, loc="lower right")
    figure.suptitle("Every head on the synthetic demo set: the demo profile, margins as published", fontsize=11)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110)
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
