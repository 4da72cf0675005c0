"""Quality as the norm of the feature before normalising: MagFace's magnitude (CVPR 2021), AdaFace's proxy.

Higher is better, by the premise of both papers; unbounded. A short training on clean images may turn it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import BaseModel
from torch import Tensor, nn

from stages.core.features import Features, Floats
from stages.core.quality import Learned, Material


class Config(BaseModel, extra="forbid", frozen=True):
    """Nothing to choose: any backbone's norm."""

    name: Literal["feature_norm"]

    def num_images(self, available: int) -> int:
        """Return how many training images it learns from: none."""
        return 0


def train(config: Config, material: Material) -> Learned:
    """Return nothing: the backbone has learned it."""
    return Learned()


class Scorer:
    """Scores images by their norm."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return the scorer; the folder holds nothing it needs."""
        return cls()

    def score(self, features: Features) -> Floats:
        """Return score_N: the norm of each image's own feature, without its flip."""
        return features.feature_norm_N.astype(np.float32)

    def module(self) -> nn.Module:
        """Return the same as a network, feature_ND -> score_N, to be exported behind the backbone."""
        return Norm()


class Norm(nn.Module):
    """L2 norm of each feature."""

    def forward(self, feature_ND: Tensor) -> Tensor:
        """Return score_N."""
        score_N: Tensor = feature_ND.norm(dim=1)
        return score_N
