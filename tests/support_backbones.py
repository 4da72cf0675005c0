"""Networks of every family for tests: published and narrow ones, with the weights of the golden data."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor, nn

from stages.runtime import plugins

DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3)}
WIDE = {"widths": (64, 128, 256, 512), "stem_stride": 1, "feature_dim": 512, "dropout": 0.4}
NARROW = {"widths": (4, 8, 12, 16), "stem_stride": 2, "feature_dim": 16, "dropout": 0.4}
NARROW_CONFIGS: dict[str, dict[str, Any]] = {
    "adaface": {"name": "iresnet", "style": "adaface", "units": (2, 1, 1, 1), **NARROW},
    "insightface": {"name": "iresnet", "style": "insightface", "units": (2, 1, 1, 1), **NARROW},
    "magface": {"name": "magface", "units": (2, 1, 1, 1), **NARROW},
    "cr_fiqa": {"name": "cr_fiqa", "units": (2, 1, 1, 1), **NARROW},
    "curricularface": {"name": "curricularface", "units": (2, 1, 1, 1), **NARROW},
    "ir_se": {"name": "ir_se", "units": (2, 1, 1, 1), **NARROW},
    "vit": {
        "name": "vit", "patch_size": 28, "width": 16, "depth": 2, "heads": 8, "mlp_ratio": 4, "feature_dim": 16,
        "drop_path": 0.05, "mask_ratio": 0.0,
    },
    "cvlface_vit": {
        "name": "cvlface_vit", "patch_size": 16, "width": 16, "depth": 12, "heads": 8, "mlp_ratio": 5, "feature_dim": 16,
        "drop_path": 0.1, "mask_ratio": 0.0,
    },
    "mobilefacenet": {"name": "mobilefacenet", "units": (1, 1, 2, 1), "base_width": 4, "scale": 2, "feature_dim": 16},
}
"""By family of checkpoint."""
INSIGHTFACE_VIT = {"name": "vit", "patch_size": 9, "heads": 8, "mlp_ratio": 4, "feature_dim": 512, "drop_path": 0.05}
CVLFACE_VIT = {"name": "cvlface_vit", "patch_size": 8, "width": 512, "feature_dim": 512, "drop_path": 0.1, "mask_ratio": 0.0}
VITS: dict[str, dict[str, Any]] = {
    "insightface_vit_t": {**INSIGHTFACE_VIT, "width": 256, "depth": 12, "mask_ratio": 0.0},
    "insightface_vit_s": {**INSIGHTFACE_VIT, "width": 512, "depth": 12, "mask_ratio": 0.0},
    "insightface_vit_b": {**INSIGHTFACE_VIT, "width": 512, "depth": 24, "mask_ratio": 0.1},
    "insightface_vit_l": {**INSIGHTFACE_VIT, "width": 768, "depth": 24, "mask_ratio": 0.1},
    "cvlface_vit_small": {**CVLFACE_VIT, "depth": 12, "heads": 8, "mlp_ratio": 5},
    "cvlface_vit_base": {**CVLFACE_VIT, "depth": 24, "heads": 16, "mlp_ratio": 3},
}
"""The published ViTs."""


def config_of(tree: dict[str, Any]) -> BaseModel:
    config: BaseModel = plugins.load("backbones", tree["name"]).Config.model_validate(tree)
    return config


def build(tree: dict[str, Any]) -> nn.Module:
    network: nn.Module = plugins.load("backbones", tree["name"]).build(config_of(tree))
    return network


def filled(name: str, shape: list[int]) -> Tensor:
    """Return a tensor as shared/golden/README.md defines it: drawn from a generator seeded by its key."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("num_batches_tracked"):
        return torch.tensor(0)
    if name.endswith("running_var"):
        drawn = rng.uniform(0.5, 1.5, shape)
    elif name.endswith("running_mean"):
        drawn = rng.normal(0, 0.1, shape)
    elif len(shape) >= 2:
        drawn = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
    elif name.endswith("bias"):
        drawn = rng.normal(0, 0.1, shape)
    else:
        drawn = rng.uniform(0.2, 1.2, shape)
    return torch.from_numpy(drawn.astype(np.float32))


def fill(network: nn.Module) -> nn.Module:
    """Set every tensor of a network, which may still be empty, to its golden value; in evaluation mode."""
    state = {key: filled(key, list(value.shape)) for key, value in network.state_dict().items()}
    network.load_state_dict(state, assign=True)
    return network.eval()


def published_file(family: str, state: dict[str, Tensor]) -> dict[str, Any]:
    """Return the file as the family's training program writes it: container, prefixes, class centres."""
    generator = torch.Generator().manual_seed(0)
    centre_DC = torch.randn(16, 5, generator=generator)
    if family in ("adaface", "ir_se"):
        head = {"head.kernel": centre_DC, "head.batch_mean": torch.tensor([20.0]), "head.t": torch.zeros(1)}
        return {"epoch": 3, "state_dict": {f"model.{key}": value for key, value in state.items()} | head}
    if family == "magface":
        prefixed = {f"features.module.{key}": value for key, value in state.items()}
        return {"epoch": 3, "arch": "iresnet50", "state_dict": prefixed | {"fc.weight": centre_DC}}
    return dict(state)


def six_images() -> Tensor:
    """Return images for golden training steps: batch norms of two are saturated, and their gradients rounding errors."""
    return torch.from_numpy(np.random.default_rng(6).uniform(-1, 1, (6, 3, 112, 112)).astype(np.float32))


def golden_image() -> Tensor:
    """Return the two images of the golden outputs, float32 (2, 3, 112, 112)."""
    return torch.from_numpy(np.random.default_rng(5).uniform(-1, 1, (2, 3, 112, 112)).astype(np.float32))
