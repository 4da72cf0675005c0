"""AdaFace (CVPR 2022; mk-minchul/AdaFace head.py at c60eaa78): the margin follows the feature norm.

The published code turns its running deviation into NaN for ever when a batch holds one sample. Here a
statistic that a batch cannot give (the deviation of one norm, anything not finite) leaves its buffer as it
was: with one sample the mean moves and the deviation stays. A deviation of zero is a value and is taken in.

Shapes: B batch, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from stages.core import margin
from stages.core.head import CosineHead, follow, pick, put

MIN_NORM, MAX_NORM = 1e-3, 100.0


class Config(BaseModel, extra="forbid", frozen=True):
    """AdaFace; its published scripts use margin 0.4, h 0.333, t_alpha 0.01."""

    name: Literal["adaface"]
    margin: float = Field(ge=0, lt=1, description="m: largest angular margin in radians")
    h: float = Field(description="concentration: share of a deviation of the norm that saturates the margin")
    scale: float = Field(64.0, gt=0, description="inverse softmax temperature")
    t_alpha: float = Field(
        0.01, gt=0, le=1, description="weight of the newest batch in the statistics: 1 - the paper's .99"
    )
    initial_mean: float = Field(20.0, ge=0, description="of the norms, before the first batch; QGFace: 0")
    initial_std: float = Field(100.0, ge=0, description="of the norms, before the first batch; QGFace: 0")


class Head(CosineHead):
    """An angular and an additive margin that depend on each feature's norm, without a gradient through it."""

    batch_mean: Tensor
    batch_std: Tensor

    def __init__(self, config: Config, feature_dim: int, num_classes: int) -> None:
        super().__init__(feature_dim, num_classes, config.scale)
        self.config = config
        self.register_buffer("batch_mean", torch.tensor(config.initial_mean))
        self.register_buffer("batch_std", torch.tensor(config.initial_std))

    def with_margin(self, cosine_BC: Tensor, norm_B: Tensor, label_B: Tensor) -> Tensor:
        """Return the cosines, within 1 - 1e-3 as published, with the true class's moved by both margins."""
        scaler_B = self.margin_scaler(norm_B)
        limit = 1 - margin.ADAFACE_EPS
        cosine_BC = cosine_BC.clamp(-limit, limit)
        angular_B = -self.config.margin * scaler_B
        moved_B = margin.angular_clipped(pick(cosine_BC, label_B), angular_B, margin.ADAFACE_EPS)
        return put(cosine_BC, moved_B - self.config.margin * (1 + scaler_B), label_B)

    @torch.no_grad()
    def margin_scaler(self, norm_B: Tensor) -> Tensor:
        """Return the normalised norm in [-1, 1], high for high quality; the batch is taken in first."""
        norm_B = norm_B.clamp(MIN_NORM, MAX_NORM)
        follow(self.batch_mean, norm_B.mean(), self.config.t_alpha)
        if norm_B.numel() > 1:
            follow(self.batch_std, norm_B.std(), self.config.t_alpha)
        scaler_B = (norm_B - self.batch_mean) / (self.batch_std + margin.ADAFACE_EPS)
        return (scaler_B * self.config.h).clamp(-1, 1)

    def statistics(self) -> Mapping[str, Tensor]:
        """Return the running mean and deviation of the feature norms."""
        return {"norm_mean": self.batch_mean.detach().clone(), "norm_std": self.batch_std.detach().clone()}
