"""SER-FIQ (Terhörst et al., CVPR 2020): stability of the embedding under random dropout in the network.

pterhoer/FaceImageQuality face_image_quality.py at 61129665: score = 2 sigmoid(-mean distance), the mean over all pairs
of m embeddings of unit length, each from a pass with other values dropped before the last linear layer (eq. 2 of the
paper divides by m^2 / 2 instead of the number of pairs: the distance times (m - 1) / m, the same order).
Higher is better; in (0.238, 1]: 1 where nothing moves, 2 sigmoid(-2) where all embeddings are opposite.

Only the last layer is passed m times, as the authors propose; what lies before it, once. The authors advise a network
trained with dropout; for one trained without, values are dropped with probability .5 all the same, and the score says
how much the embedding hangs on few values, which nothing in its training has levelled. What is dropped is drawn once
from `seed`, the same for all images, so that a score depends on its image alone. Single values are dropped, for
networks trained to drop whole channels (MagFace), too.

Shapes: B batch, T passes, K values before the last layer, D feature dimensions.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Literal, Self

import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.dropout import _DropoutNd

from stages.core.errors import InputError
from stages.core.metrics.features import Features, Floats
from stages.core.metrics.quality import Learned, Material, read_options, seen

WITHOUT = 0.5
"""Dropout probability for a network that was trained without dropout."""
STRETCH, SHIFT = 130.0, 0.88
"""alpha and r of the released code."""


class Config(BaseModel, extra="forbid", frozen=True):
    """Paper and released code: 100 passes."""

    name: Literal["ser_fiq"] = "ser_fiq"
    passes: int = Field(100, ge=2, description="m: stochastic passes of the last layer")
    rate: float | None = Field(
        None, gt=0, lt=1, description="probability of dropping a value; null: the network's own, .5 if it has none"
    )
    seed: int = Field(0, ge=0, description="of what is dropped")
    stretched: bool = Field(
        False, description="sigmoid(130 (score - .88)) as the released code: in (0, 1), the same order but for rounding"
    )

    def num_images(self, available: int) -> int:
        """Return the number of training images it learns from: none."""
        return 0


def train(config: Config, material: Material) -> Learned:
    """Return nothing: the network is used unchanged."""
    return Learned()


class Scorer:
    """Scores images by passes through the network; ``network`` computes the scores that ``score`` returns."""

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config.model_validate({"name": "ser_fiq"})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return the scorer of a run."""
        return cls(read_options(folder, Config, "ser_fiq"))

    def key(self) -> str:
        """Return every option: other options give other scores."""
        return self.config.model_dump_json()

    def network(self, backbone: nn.Module) -> nn.Module:
        """Return a network from images to score_B1."""
        return Stochastic(backbone, self.config)

    def score(self, features: Features) -> Floats:
        """Return score_N, computed while the images were embedded."""
        return seen(features, "ser_fiq")


class Stochastic(nn.Module):
    """A copy of a backbone whose last linear layer is run T times; from images to score_B1."""

    def __init__(self, backbone: nn.Module, config: Config) -> None:
        super().__init__()
        self.config = config
        self.backbone = copy.deepcopy(backbone).eval().requires_grad_(False)
        parent, name = last_linear(self.backbone)
        linear = getattr(parent, name)
        rate = config.rate if config.rate is not None else own_rate(backbone)
        setattr(parent, name, Passes(linear, masks(config.passes, linear.in_features, rate, config.seed)))

    def forward(self, image_B3HW: Tensor) -> Tensor:
        """Return score_B1."""
        feature_RD = self.backbone(image_B3HW)
        embedding_RD = functional.normalize(feature_RD.double(), dim=1)
        embedding_TBD = embedding_RD.view(self.config.passes, -1, embedding_RD.shape[1])
        score_B = 2 * torch.sigmoid(-mean_distance(embedding_TBD.transpose(0, 1)))
        return (torch.sigmoid(STRETCH * (score_B - SHIFT)) if self.config.stretched else score_B)[:, None]


class Passes(nn.Module):
    """A linear layer run once per row of the masks: feature_BK -> feature of (T B, D), pass by pass."""

    kept_TK: Tensor

    def __init__(self, linear: nn.Linear, kept_TK: Tensor) -> None:
        super().__init__()
        self.linear = linear
        self.register_buffer("kept_TK", kept_TK)

    def forward(self, value_BK: Tensor) -> Tensor:
        """Return the layer's output of every pass, T * B rows."""
        return torch.cat([self.linear(value_BK * kept_K) for kept_K in self.kept_TK])


def masks(passes: int, num_values: int, rate: float, seed: int) -> Tensor:
    """Return mask_TK: 0 where a value is dropped, 1 / (1 - rate) where it is kept, as dropout does."""
    generator = torch.Generator().manual_seed(seed)
    kept_TK = torch.rand(passes, num_values, generator=generator) >= rate
    return kept_TK / (1 - rate)


def mean_distance(embedding_BTD: Tensor) -> Tensor:
    """Return the mean Euclidean distance between each image's T embeddings, over all pairs, shape (B,).

    >>> mean_distance(torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]]))
    tensor([0.9428])
    """
    first_P, second_P = torch.triu_indices(embedding_BTD.shape[1], embedding_BTD.shape[1], 1)
    cosine_BTT = embedding_BTD @ embedding_BTD.mT
    # unit length: |a - b|^2 = 2 - 2 cos; rounding may leave less than 0 of it
    return (2 - 2 * cosine_BTT[:, first_P, second_P]).clamp_min(0).sqrt().mean(dim=1)


def own_rate(backbone: nn.Module) -> float:
    """Return the network's dropout probability in its training, .5 if it has none."""
    rates = [module.p for module in backbone.modules() if isinstance(module, _DropoutNd)]
    return max(rates, default=0.0) or WITHOUT


def last_linear(backbone: nn.Module) -> tuple[nn.Module, str]:
    """Return the layer that makes the feature, the one with most inputs: its parent module, and its name there.

    Raises:
        ValueError: the network has no linear layer of more than one output.
    """
    found = {
        name: child.in_features
        for name, child in backbone.named_modules()
        if isinstance(child, nn.Linear) and child.out_features > 1
    }
    if not found:
        raise InputError("SER-FIQ drops values before the network's last linear layer, and this network has none")
    parent, _, name = max(found, key=lambda name: found[name]).rpartition(".")
    return backbone.get_submodule(parent), name
