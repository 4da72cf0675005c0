"""Does the set for IG-FIQA's claim do what it says? CCS of its low-variance classes is high, though quality is low.

    OMP_NUM_THREADS=1 python benchmarks/studies/low_variance.py FOLDER [--objectives cr_fiqa,ig_fiqa,other] [--seed 0]

Draws 250 people x 20 images twice, without and with 30 % low-variance classes, trains the demo's network with ArcFace
and CR-FIQA on both, shorter than the demo, and looks at the CCS (the pseudo-label before the division) of every
training image as it is, and at the learned score of new images of people it has never seen. What was measured is kept
in FOLDER/results/low_variance. Draws docs/images/low-variance.png. About 2 minutes a training on one core.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scipy.stats
import torch

from benchmarks.studies import studied_data
from benchmarks.studies.premise import ROOT, SHORT, Recipe, config_of
from stages.core.losses import classifiability
from stages.core.losses.class_cosines import own_and_nearest
from stages.core.metrics.processing import decode
from stages.embedding.embedder import Embedder
from stages.runtime import artifacts, devices
from stages.training import loop
from stages.training.checkpoints import Checkpoints
from stages.training.dataset import Records, open_records

TRAIN = {"identities": 250, "images_per_identity": 20, "low_quality_share": 0.25}
SETS: dict[str, dict[str, Any]] = {
    "plain": TRAIN, "low_variance": {**TRAIN, "low_variance": {"share": 0.3, "quality": "low"}},
}  # fmt: skip
NONE = {"crop_probability": 0.0, "low_res_probability": 0.0, "photometric_probability": 0.0}
OBJECTIVES: dict[str, dict[str, Any]] = {
    "cr_fiqa": {"objective": {"name": "cr_fiqa"}, "augmentation": NONE},
    "ig_fiqa": {"objective": {"name": "ig_fiqa"}},
    "other": {"objective": {"name": "ig_fiqa", "guidance": "low_variance"}},
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("folder", type=Path)
    options.add_argument("--objectives", default="cr_fiqa", help=f"of {', '.join(OBJECTIVES)}")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--out", type=Path, default=ROOT / "docs/images/low-variance.png")
    arguments = options.parse_args()
    out = arguments.out.resolve()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(arguments.folder)
    devices.prepare(1)
    for objective in arguments.objectives.split(","):
        for name in SETS:
            measure(name, objective, arguments.seed)
            print(f"{objective} on {name}: {summary(name, objective, arguments.seed)}")
    draw(arguments.seed, out)


def paths(name: str, objective: str, seed: int) -> tuple[Path, Path]:
    """Return where the training images and the strangers of a training are measured."""
    folder = Path("results/low_variance")
    return tuple(folder / f"{name}-{objective}-{seed}-{what}.csv" for what in ("training", "strangers"))  # type: ignore[return-value]


def measure(name: str, objective: str, seed: int) -> None:
    """Train, and write what is known and measured of each image, unless it is there."""
    training_path, strangers_path = paths(name, objective, seed)
    if strangers_path.is_file():
        return
    studied_data.prepare(name, SETS[name])
    # published with 5 and batches of 512; of 64 images gradients are noisier, and 5 lets the quality loss wreck the net
    own = {"head": {"name": "arcface", "margin": 0.5}, "schedule": {**SHORT, "clip_norm": 1.0}, **OBJECTIVES[objective]}
    config = config_of(Recipe(config=own), name, seed)
    config = config.model_copy(update={"validation": config.validation.model_copy(update={"every_epochs": 0})})
    records = open_records(name)
    training = loop.Training(config, records)
    checkpoints = Checkpoints(f"low-variance-{name}-{objective}-{seed}")
    training.run(checkpoints, f"{objective} {name}")
    embedder = Embedder(training.networks.backbone, config.color_order, torch.device("cpu"), flip=False)
    write(training_path, of_training(training, embedder, records, name))
    write(strangers_path, of_strangers(training, embedder))
    checkpoints.clear()


def of_training(training: loop.Training, embedder: Embedder, records: Records, name: str) -> pd.DataFrame:
    """Return key, quality and low_variance of every training image with its CCS, pseudo-label and score."""
    images = (decode(bytes(records.images.image_bytes(position))) for position in range(len(records.key_N)))
    feature_ND = torch.from_numpy(embedder(images).feature_ND)
    ccs_N, nnccs_N = own_and_nearest(training.networks.head, feature_ND, torch.from_numpy(records.label_N))
    table = pd.read_parquet(artifacts.DATA / name / "train" / "truth.parquet").set_index("key").loc[records.key_N]
    kept = table[["identity", "quality"]].reset_index()
    kept["low_variance"] = table["low_variance"].to_numpy() if "low_variance" in table else False
    kept["ccs"] = ccs_N.numpy()
    kept["label"] = classifiability.target_of("paper", ccs_N, nnccs_N).numpy()
    kept["score"] = score(training, feature_ND)
    return kept


def of_strangers(training: loop.Training, embedder: Embedder) -> pd.DataFrame:
    """Return quality, score and norm of new images of people that are in no training set."""
    held = studied_data.held_out(Path("data/held/strangers.npz"), range(60), known=False)
    feature_ND = torch.from_numpy(embedder(held.image_NHW3[held.is_probe_N]).feature_ND)
    columns = {"score": score(training, feature_ND), "norm": feature_ND.norm(dim=1).numpy()}
    return pd.DataFrame({"quality": held.quality_N[held.is_probe_N], **columns})


@torch.inference_mode()
def score(training: loop.Training, feature_ND: torch.Tensor) -> np.ndarray:
    """Return what the objective's layer says."""
    layer = training.networks.objective.quality_layer()
    assert layer is not None
    score_N: np.ndarray = layer(feature_ND)[:, 0].numpy()
    return score_N


def write(path: Path, table: pd.DataFrame) -> None:
    """Write a table whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with artifacts.write_file(path) as aside:
        table.to_csv(aside, index=False)


def summary(name: str, objective: str, seed: int) -> str:
    """Return the numbers that decide."""
    images, strangers = (pd.read_csv(path) for path in paths(name, objective, seed))
    few = images["low_variance"]
    groups = {"other classes": ~few, "of these below quality .35": ~few & (images["quality"] < 0.35)}
    groups |= {"low-variance classes": few} if few.any() else {}
    means = {group: images[rows][["ccs", "quality"]].mean() for group, rows in groups.items()}
    parts = [f"CCS of {group} {mean['ccs']:.2f} (quality {mean['quality']:.2f})" for group, mean in means.items()]
    pairs = [("label", images), ("score", images), ("score of strangers", strangers), ("norm of strangers", strangers)]
    for what, table in pairs:
        rho = scipy.stats.spearmanr(table[what.split()[0]], table["quality"]).statistic
        parts.append(f"Spearman of {what} with quality {rho:+.2f}")
    return "; ".join(parts)


def draw(seed: int, out: Path) -> None:
    """Draw CCS over quality in both sets, and the score of strangers after each training."""
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.6), constrained_layout=True)
    titles = {"plain": "without low-variance classes", "low_variance": "with low-variance classes"}
    for axis, name in zip(axes, SETS, strict=False):
        images = pd.read_csv(paths(name, "cr_fiqa", seed)[0])
        for is_few, colour, label in ((False, "C0", "other classes"), (True, "C3", "low-variance classes")):
            of = images[images["low_variance"] == is_few]
            if len(of):
                text = f"{label}, {len(of)} images"
                axis.plot(of["quality"], of["ccs"], ".", color=colour, markersize=2, alpha=0.5, label=text)
        axis.set_title(f"training images of the set {titles[name]}", fontsize=10)
        axis.set_ylabel("CCS: cosine with the own class's centre")
        axis.legend(fontsize=8, loc="lower right", markerscale=5)
    for name, colour in (("plain", "C0"), ("low_variance", "C3")):
        strangers = pd.read_csv(paths(name, "cr_fiqa", seed)[1])
        mean = strangers.groupby("quality")["score"].agg(["mean", "std"])
        axes[2].errorbar(
            mean.index, mean["mean"], mean["std"], color=colour, marker="o", markersize=4, capsize=2,
            label=f"trained {titles[name]}",
        )  # fmt: skip
    axes[2].set_title("CR-FIQA's score of others' new images (mean, deviation)", fontsize=10)
    axes[2].legend(fontsize=8)
    for axis in axes:
        axis.set_xlabel("known quality")
        axis.grid(alpha=0.3)
    axes[1].sharey(axes[0])
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main()
