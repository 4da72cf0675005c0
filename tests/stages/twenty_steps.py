"""Twenty training steps of a head or an objective in float64, on weights and images that numpy draws."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from stages.config.training import Config
from stages.core.losses.sampler import Order
from stages.training.distributed import Processes
from stages.training.step import Stepper

GOLDEN = Path(__file__).parents[1] / "golden" / "losses.json"
STEPS, BATCH, CLASSES = 20, 8, 6
ADAFACE: dict[str, Any] = {"name": "adaface", "margin": 0.4, "h": 0.333}
PLAIN = {"name": "classification"}
# head and objective; a new head or objective needs a line here
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "adaface": (ADAFACE, PLAIN),
    "arcface": ({"name": "arcface", "margin": 0.5}, PLAIN),
    "cosface": ({"name": "cosface", "margin": 0.35}, PLAIN),
    "curricularface": ({"name": "curricularface", "margin": 0.5}, PLAIN),
    "magface": ({"name": "magface", "min_norm": 1.0, "max_norm": 10.0, "norm_weight": 1.0}, PLAIN),
    "mv_softmax": ({"name": "mv_softmax", "kind": "am", "margin": 0.35}, PLAIN),
    "softmax": ({"name": "softmax"}, PLAIN),
    "combined": ({"name": "combined", "m1": 1.0, "m2": 0.3, "m3": 0.2}, PLAIN),
    "sphereface": ({"name": "sphereface", "margin": 1.7}, PLAIN),
    "elasticface": ({"name": "elasticface", "margin_kind": "arc", "margin": 0.5}, PLAIN),
    "uniface": ({"name": "uniface", "margin": 0.4}, PLAIN),
    "subcenter_arcface": ({"name": "subcenter_arcface", "margin": 0.5}, PLAIN),
    "broadface": ({"name": "arcface", "margin": 0.5}, {"name": "broadface", "queue_size": 24}),
    "cr_fiqa": ({"name": "arcface", "margin": 0.5}, {"name": "cr_fiqa"}),
    "ig_fiqa": ({"name": "arcface", "margin": 0.5}, {"name": "ig_fiqa"}),
    "qgface": (ADAFACE, {"name": "qgface", "queue_size": 24}),
    "qgface, slow copy": (ADAFACE, {"name": "qgface", "queue_size": 24, "queue": "momentum"}),
}


def config(head: dict[str, Any], objective: dict[str, Any]) -> Config:
    """Return a schedule of two epochs of ten steps: a warm-up, then a fall of the rate in the middle."""
    return Config.model_validate(
        {
            "dataset": "none", "seed": 7, "compute": {"precision": "fp64", "channels_last": False},
            "backbone": {
                "name": "iresnet", "style": "adaface", "units": [1, 1, 1, 1], "widths": [4, 4, 8, 8],
                "stem_stride": 2, "feature_dim": 16, "dropout": 0.0,
            },
            "head": {"scale": 16.0} | head, "objective": objective,
            "augmentation": {"crop_probability": 0.0, "low_res_probability": 0.0, "photometric_probability": 0.0},
            "schedule": {
                "epochs": 2, "batch_size": BATCH, "learning_rate": 0.005, "milestones": [1], "warmup_epochs": 0.3,
                "clip_norm": 5.0,
            },
        }
    )  # fmt: skip


def redraw(networks: nn.Module) -> None:
    """Draw each weight from its name by numpy, whose numbers no version of torch changes."""
    with torch.no_grad():
        for name, value in networks.named_parameters():
            if value.ndim > 1:
                drawn = np.random.default_rng(zlib.crc32(name.encode())).normal(size=tuple(value.shape))
                value.copy_(torch.from_numpy(drawn * np.sqrt(2 / np.prod(value.shape[1:]))))


def batch(step: int, views: int, classes: int = CLASSES) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images of each view, with a pattern of their person in noise, and their labels."""
    rng = np.random.default_rng((9, step))
    label_B = rng.integers(0, classes, BATCH)
    patterns = [np.random.default_rng((8, label)).normal(128, 40, (112, 112, 3)) for label in label_B]
    image_VBHW3 = [[pattern + rng.normal(0, 40 * (1 + view), pattern.shape) for pattern in patterns] for view in range(views)]
    return torch.from_numpy(np.clip(image_VBHW3, 0, 255).astype(np.uint8)), torch.from_numpy(label_B)


def losses(name: str) -> list[float]:
    """Return the loss of each step."""
    torch.set_num_threads(1)
    stepper = Stepper(config(*CASES[name]), CLASSES, Order(STEPS * BATCH // 2, BATCH, 7), Processes())
    redraw(stepper.networks.modules())
    stepper.networks.objective.attach(stepper.networks.backbone)
    views = len(stepper.networks.objective.views)
    return [float(stepper.advance(step, *batch(step, views)).loss.detach()) for step in range(STEPS)]
