"""Quality as the norm of the feature before normalising: MagFace's magnitude (CVPR 2021), AdaFace's proxy.

Higher is better, by the premise of both papers; unbounded. A short training on clean images may turn it.

With ``scale: ofiq`` it is what OFIQ makes of MagFace's magnitude, a whole number from 0 to 100 (BSI-OFIQ/OFIQ-Project
OFIQlib/modules/measures/src/UnifiedQualityScore.cpp at a16a990e, ISO/IEC 29794-5):
round(100 / (1 + exp(-(norm - centre) / width))). Centre and width are those of its network, an IR-50 trained with
MagFace; for another network they are another's, and the score may sit at 0 or 100 throughout.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

import numpy as np
import scipy.special
import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn

from stages.core.metrics.features import Features, Floats
from stages.core.metrics.quality import Learned, Material, read_options


class Config(BaseModel, extra="forbid", frozen=True):
    """The norm of any backbone's feature, raw or on OFIQ's scale."""

    name: Literal["feature_norm"] = "feature_norm"
    scale: Literal["norm", "ofiq"] = Field("norm", description="norm: as it is; ofiq: a whole number from 0 to 100")
    centre: float = Field(23.0, description="with ofiq: the norm that becomes 50")
    width: float = Field(2.6, gt=0, description="with ofiq: how much norm lies between 50 and 73")

    def num_images(self, available: int) -> int:
        """Return the number of training images it learns from: none."""
        return 0


def train(config: Config, material: Material) -> Learned:
    """Return nothing: the backbone has learned it."""
    return Learned()


class Scorer:
    """Scores images by their norm."""

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config.model_validate({"name": "feature_norm"})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return the scorer of a run; its folder holds only the scale."""
        return cls(read_options(folder, Config, "feature_norm"))

    def score(self, features: Features) -> Floats:
        """Return score_N: the norm of each image's own feature, without its flip."""
        norm_N = features.feature_norm_N.astype(np.float32)
        if self.config.scale == "norm":
            return norm_N
        sigmoid_N: Floats = scipy.special.expit((norm_N - self.config.centre) / self.config.width)
        return np.rint(100 * sigmoid_N).astype(np.float32)

    def module(self) -> nn.Module:
        """Return the scorer as a network, feature_ND -> score_N, to be exported behind the backbone."""
        return Norm(self.config)


class Norm(nn.Module):
    """L2 norm of each feature."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def forward(self, feature_ND: Tensor) -> Tensor:
        """Return score_N."""
        norm_N: Tensor = feature_ND.norm(dim=1)
        if self.config.scale == "norm":
            return norm_N
        return (100 * torch.sigmoid((norm_N - self.config.centre) / self.config.width)).round()
