"""Twenty steps of a published recipe in float64, at narrow widths: weights drawn by their names, images by their step.

`tests/golden/make_author_losses.py` runs the authors' programs on the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stages.config.training import Config
from stages.core.images.pixels import from_rows, to_network
from stages.core.losses.sampler import Order
from stages.training.distributed import Processes
from stages.training.step import Stepper
from tests.stages import twenty_steps
from tests.support_backbones import filled

GOLDEN = Path(__file__).parents[1] / "golden" / "author_losses.json"
STEPS, CLASSES, RATE, DIM, QUEUE = 20, 40, 0.02, 16, 24
NARROW: dict[str, Any] = {"units": [1, 1, 1, 1], "widths": [4, 8, 12, 16], "stem_stride": 2, "feature_dim": DIM, "dropout": 0.0}
ADAFACE = {"name": "iresnet", "style": "adaface"}
INSIGHTFACE = {"name": "iresnet", "style": "insightface"}
# after ten steps the rate falls to a tenth, as the program of each has it; insightface's falls with every step
FALLS = {"milestones": [1], "decayed": "all"}
POLYNOMIAL = {"decay": "polynomial", "decayed": "all", "clip_norm": 5.0}
CASES: dict[str, dict[str, Any]] = {
    "AdaFace": {
        "backbone": ADAFACE, "head": {"name": "adaface", "margin": 0.4, "h": 0.333},
        "schedule": {"milestones": [1], "decayed": "all_but_batch_norms"},
    },
    "insightface ArcFace": {
        "backbone": INSIGHTFACE, "schedule": POLYNOMIAL, "color_order": "RGB",
        "head": {"name": "arcface", "margin": 0.5, "gradient": "straight_through", "beyond_pi": "wrap"},
    },
    "insightface CosFace": {
        "backbone": INSIGHTFACE, "schedule": POLYNOMIAL, "color_order": "RGB", "head": {"name": "cosface", "margin": 0.4},
    },
    "MagFace": {
        "backbone": {"name": "magface"}, "schedule": FALLS, "value_range": [0, 1],
        # norms of a narrow network are small: published 10 to 110
        "head": {"name": "magface", "min_norm": 1.0, "max_norm": 10.0, "min_margin": 0.45, "max_margin": 0.8,
                 "norm_weight": 35.0},
    },
    "CurricularFace": {
        "backbone": {"name": "curricularface"}, "head": {"name": "curricularface", "margin": 0.5},
        "schedule": {"milestones": [1], "decayed": "all_but_batch_norms"}, "color_order": "RGB",
    },
    "CR-FIQA": {
        "backbone": {"name": "cr_fiqa"}, "head": {"name": "arcface", "margin": 0.5, "beyond_pi": "wrap"},
        "objective": {"name": "cr_fiqa", "target": "code"}, "schedule": {**FALLS, "clip_norm": 5.0}, "color_order": "RGB",
    },
    "QGFace": {
        # its copy of AdaFace begins with statistics of 0
        "backbone": ADAFACE, "objective": {"name": "qgface", "queue_size": QUEUE},
        "head": {"name": "adaface", "margin": 0.4, "h": 0.333, "initial_mean": 0.0, "initial_std": 0.0},
        "schedule": {"milestones": [1], "decayed": "all_but_batch_norms"},
    },
}  # fmt: skip


def config(name: str) -> Config:
    """Return the recipe of a program, of two epochs of ten steps, without augmentation and dropout."""
    case = CASES[name]
    return Config.model_validate(
        {
            **case, "dataset": "none", "seed": 0, "compute": {"precision": "fp64", "channels_last": False},
            "backbone": NARROW | case["backbone"], "head": {"scale": 64.0} | case["head"],
            "augmentation": {"crop_probability": 0.0, "low_res_probability": 0.0, "photometric_probability": 0.0},
            "schedule": {"epochs": 2, "batch_size": twenty_steps.BATCH, "learning_rate": RATE} | case["schedule"],
        }
    )  # fmt: skip


def fill(network: nn.Module) -> None:
    """Set each parameter to what its name draws, in float64."""
    with torch.no_grad():
        for name, value in network.named_parameters():
            value.copy_(filled(name, list(value.shape)))


def centres() -> Tensor:
    """Return the class centres at the start, (C, D)."""
    return filled("centres", [CLASSES, DIM]).double()


def batch(name: str, step: int) -> tuple[Tensor, Tensor]:
    """Return images of each view as bytes, (V, B, H, W, 3), and their labels."""
    return twenty_steps.batch(step, 2 if name == "QGFace" else 1, CLASSES)


def pixels(name: str, step: int, view: int = 0) -> Tensor:
    """Return the images of a step as the network of a program takes them, in float64."""
    of = config(name)
    return to_network(from_rows(batch(name, step)[0][view]), of.color_order, of.value_range).double().contiguous()


def losses(name: str) -> list[float]:
    """Return the loss of each of our steps."""
    torch.set_num_threads(1)
    stepper = Stepper(config(name), CLASSES, Order(STEPS * twenty_steps.BATCH // 2, twenty_steps.BATCH, 0), Processes())
    networks = stepper.networks
    fill(networks.backbone)
    with torch.no_grad():
        networks.head.weight.copy_(centres())
        if (layer := networks.objective.quality_layer()) is not None:
            layer.weight.copy_(filled("qs.weight", [1, DIM]))
            layer.bias.copy_(filled("qs.bias", [1]))
    return [float(stepper.advance(step, *batch(name, step)).loss.detach()) for step in range(STEPS)]
