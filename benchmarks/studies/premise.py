"""Under which training do feature norm and P_y rise with known quality? Trains the demo's network in many ways.

    OMP_NUM_THREADS=1 python benchmarks/studies/premise.py FOLDER [--recipes low0_aug0,...] [--seeds 0,1] [--list]

Draws 150 people x 20 images with each share of low quality, trains with the real trainer, and after every epoch looks
at new images of known quality: of 60 people that are trained on (norm, and P_y: the softmax over scaled cosines
without a margin, of the own class), and of 60 that are not (norm, and rank-1 against one clean image of each). What
was measured is kept in FOLDER/results/premise; a recipe that is there is not trained again, and a stopped training
goes on. Draws docs/images/premise-*.png from all that is there. Under a minute a recipe on one core, 20 in all.
"""

from __future__ import annotations

import argparse
import copy
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import scipy.stats
import torch
import yaml
from torch import nn
from torch.nn import functional

from benchmarks.studies import premise_plots, studied_data
from benchmarks.studies.studied_data import LEVELS, Held
from stages.config.training import Config
from stages.core.images.pixels import ColorOrder
from stages.core.losses.head import CosineHead
from stages.embedding.embedder import Embedder
from stages.models import model_files
from stages.runtime import artifacts, devices, plugins
from stages.runtime.merge import merge
from stages.training import loop
from stages.training.checkpoints import Checkpoints
from stages.training.dataset import open_records

ROOT = Path(__file__).resolve().parents[2]
IDENTITIES, IMAGES, HELD = 150, 20, 60
SHARES = (0.0, 0.1, 0.25, 0.5)
SHORT = {"epochs": 6, "milestones": [4, 5], "margin_warmup_epochs": 4}
LONG = {"epochs": 18, "milestones": [12, 15], "margin_warmup_epochs": 12}


@dataclass(frozen=True)
class Recipe:
    """What differs from the demo's training."""

    share: float = 0.25
    """Of the training images that are of low quality."""
    low_res: float = 0.2
    """Probability of the augmentation."""
    config: Mapping[str, Any] = field(default_factory=dict)
    last_scale: bool = False
    """Give the last batch norm a scale and a shift that are trained, which no published net of these families has."""


def _ada(**fields: Any) -> dict[str, Any]:
    return {"head": {"name": "adaface", "margin": 0.4, "h": 0.333, **fields}}


BARE: dict[str, Any] = {
    "head": {"name": "arcface", "margin": 0.5}, "schedule": {**SHORT, "clip_norm": 1.0},
    "augmentation": {"crop_probability": 0.0, "low_res_probability": 0.0, "photometric_probability": 0.0},
}  # fmt: skip
RECIPES: dict[str, Recipe] = {
    **{f"low{round(100 * share)}_aug{round(100 * low_res)}": Recipe(share, low_res)
       for share in SHARES for low_res in (0.0, 0.2)},
    **{f"low{round(100 * share)}_aug{round(100 * low_res)}_long": Recipe(share, low_res, {"schedule": LONG})
       for share, low_res in ((0.1, 0.0), (0.25, 0.2))},
    "decay_none": Recipe(config={"schedule": {"weight_decay": 0.0}}),
    "decay_tenfold": Recipe(config={"schedule": {"weight_decay": 5e-3}}),
    "last_shift": Recipe(config={"backbone": {"style": "insightface"}}),
    "last_scale": Recipe(last_scale=True),
    "cosface": Recipe(config={"head": {"name": "cosface", "margin": 0.35}}),
    "arcface": Recipe(config={"head": {"name": "arcface", "margin": 0.5}}),
    "magface": Recipe(config={"head": {"name": "magface", "min_norm": 1.0, "max_norm": 25.0, "norm_weight": 5.0}}),
    # the controls of joint quality: a net with CR-FIQA's loss, as trained for low_variance.py, and one without
    "joint": Recipe(low_res=0.0, config=BARE | {"objective": {"name": "cr_fiqa"}}),
    "joint_without": Recipe(low_res=0.0, config=BARE),
    "margin_from_start": Recipe(config={"schedule": {"margin_warmup_epochs": 0}}),
    "scale_64": Recipe(config={"head": {"scale": 64}}),
    # statistics that arrive within these few steps: with .01 the scaler still knows its initial deviation of 100
    **{f"{name}_low{round(100 * share)}": Recipe(share, low_res, _ada(h=h, t_alpha=0.1))
       for share, low_res in ((0.1, 0.0), (0.25, 0.2))
       for name, h in (("h_positive", 0.333), ("h_zero", 0.0), ("h_negative", -0.333))},
}  # fmt: skip


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("folder", type=Path)
    options.add_argument("--recipes", default=",".join(RECIPES))
    options.add_argument("--seeds", default="0")
    options.add_argument("--list", action="store_true", help="print what was measured, train nothing")
    options.add_argument("--runs", type=Path, nargs="*", default=[], help="PROJECT/runs/NAME of the demo to look at")
    options.add_argument("--out", type=Path, default=ROOT / "docs/images")
    arguments = options.parse_args()
    names, out = arguments.recipes.split(","), arguments.out.resolve()
    unknown = sorted(set(names) - set(RECIPES))
    if unknown:
        raise LookupError(f"no recipe is called {unknown[0]!r}: there are {', '.join(RECIPES)}")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(arguments.folder)
    devices.prepare(1)
    for seed in () if arguments.list else [int(text) for text in arguments.seeds.split(",")]:
        for name in names:
            measure(name, seed)
    for run in arguments.runs:
        measure_run(run)
    found = {name: premise_plots.read(Path("results/premise"), name) for name in RECIPES}
    found = {name: runs for name, runs in found.items() if runs}
    print(premise_plots.table(found))
    premise_plots.draw(found, out)


def measure(name: str, seed: int) -> None:
    """Train once and keep what every epoch came to, unless it is kept."""
    path = Path("results/premise") / f"{name}-{seed}.json"
    if path.is_file():
        return
    recipe = RECIPES[name]
    dataset = f"low{round(100 * recipe.share)}"
    studied_data.prepare(
        dataset, {"identities": IDENTITIES, "images_per_identity": IMAGES, "low_quality_share": recipe.share}
    )
    held = both_held()
    config = config_of(recipe, dataset, seed)
    training = loop.Training(config, open_records(dataset))
    if recipe.last_scale:
        give_scale(training)
    training.validate = lambda backbone: look(training.networks.head, backbone, config.color_order, held)
    checkpoints = Checkpoints(f"premise-{name}-{seed}")
    training.run(checkpoints, f"{name} {seed}")
    artifacts.write_json(path, {"recipe": name, "seed": seed, "history": training.history})
    checkpoints.clear()


def measure_run(folder: Path) -> None:
    """Print what a trained run of the synthetic demo comes to: the same people, in images new to it as well."""
    backbone, model = model_files.read_backbone(folder / "backbone")
    head_config = plugins.load("heads", model.head["name"]).Config.model_validate(model.head)
    head = plugins.load("heads", model.head["name"]).Head(head_config, model.feature_dim, model.num_classes)
    head.load_state_dict(model_files.read_weights(folder / "backbone")["head"])
    seen = look(head, backbone, model.color_order, both_held())
    kept = {name: round(value, 3) for name, value in seen.items() if "spearman" in name or "rank1" in name}
    print(folder, kept, "norms", [round(seen[f"stranger_norm_at_{level:g}"], 2) for level in LEVELS])


def both_held() -> tuple[Held, Held]:
    """Return new images of people of the training sets, and of others."""
    return (
        studied_data.held_out(Path("data/held/known.npz"), range(HELD), known=True),
        studied_data.held_out(Path("data/held/strangers.npz"), range(HELD), known=False),
    )


def config_of(recipe: Recipe, dataset: str, seed: int) -> Config:
    """Return the demo's training, shorter, with what the recipe changes."""
    profile = yaml.safe_load((ROOT / "profiles/demo.yaml").read_text())["defaults"]
    for section in ("benchmarks", "quality"):
        profile.pop(section, None)
    own: dict[str, Any] = {
        "dataset": dataset, "seed": seed, "schedule": SHORT,
        "augmentation": {"low_res_probability": recipe.low_res},
        "validation": {"every_epochs": 1},
    }  # fmt: skip
    if "name" not in recipe.config.get("head", {}):
        own |= _ada()
    return Config.model_validate(merge(merge(profile, own), dict(recipe.config)))


def give_scale(training: loop.Training) -> None:
    """Put a last batch norm with scale and shift in the place of the one without, before the first step."""
    layers = training.networks.backbone.output_layer
    assert isinstance(layers, nn.Sequential)
    last = layers[-1]
    assert isinstance(last, nn.BatchNorm1d)
    layers[-1] = nn.BatchNorm1d(last.num_features)
    training.stepper.optimiser.add_param_group({"params": list(layers[-1].parameters()), "weight_decay": 0.0})


def look(head: CosineHead, backbone: nn.Module, color_order: ColorOrder, held: tuple[Held, Held]) -> dict[str, float]:
    """Return rank correlations with known quality, and means by level, of norm and P_y."""
    embedder = Embedder(copy.deepcopy(backbone), color_order, torch.device("cpu"), flip=False)
    known, strangers = held
    seen = {"avg": 0.0}  # nothing is selected by it
    for who, of in (("known", known), ("stranger", strangers)):
        feature_ND = embedder(of.image_NHW3).feature_ND
        probe_N, quality_N = of.is_probe_N, of.quality_N[of.is_probe_N]
        measures = {"norm": np.linalg.norm(feature_ND, axis=1)[probe_N]}
        if who == "known":
            measures["p_y"] = own_probability(head, feature_ND[probe_N], of.person_N[probe_N])
        else:
            hit_N = identified(feature_ND, of)
            seen["rank1_good"] = float(hit_N[quality_N >= 0.7].mean())
            seen["rank1_poor"] = float(hit_N[quality_N < 0.5].mean())
        for of_what, value_N in measures.items():
            key = f"{who}_{of_what}"
            seen[f"{key}_spearman"] = float(scipy.stats.spearmanr(value_N, quality_N).statistic)
            seen |= {f"{key}_at_{level:g}": float(value_N[quality_N == level].mean()) for level in LEVELS}
    return seen


@torch.inference_mode()
def own_probability(head: CosineHead, feature_ND: np.ndarray, label_N: np.ndarray) -> np.ndarray:
    """Return P_y of each image: its own class's share of the softmax over scaled cosines, no margin."""
    cosine_NC, _ = head.cosines(torch.from_numpy(feature_ND))
    probability_NC = functional.softmax(head.scale * cosine_NC, dim=1)
    return probability_NC.gather(1, torch.from_numpy(label_N)[:, None])[:, 0].numpy()


def identified(feature_ND: np.ndarray, of: Held) -> np.ndarray:
    """Return for each probe whether the nearest clean image is its own person's."""
    embedding_ND = feature_ND / np.linalg.norm(feature_ND, axis=1, keepdims=True)
    clean = ~of.is_probe_N
    nearest_N = (embedding_ND[of.is_probe_N] @ embedding_ND[clean].T).argmax(axis=1)
    hit_N: np.ndarray = of.person_N[clean][nearest_N] == of.person_N[of.is_probe_N]
    return hit_N


if __name__ == "__main__":
    main()
