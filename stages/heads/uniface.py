"""UniFace (Zhou et al., ICCV 2023; CVI-SZU/UniFace head.py at 00ade470): one threshold for all pairs.

Binary cross-entropy with every class, under one learned threshold b for all of them: the loss of an image is
softplus(b - s (c_y - m)) + l times the sum over the other classes of softplus(s c_j - b), each exponent within +-s, as
published. It is no softmax, so the threshold separates genuine from impostor pairs across the data set.

Shapes: B batch, C classes, D feature dimensions, K classes of a chunk.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn
from torch.nn import functional

from stages.core import autocast
from stages.core.losses.class_parallel import Shard
from stages.core.losses.class_values import cosine_with_own, sum_of_others
from stages.core.losses.head import HeadOutput, directions, drawn_rows
from stages.core.losses.margin_head import MarginHead, Target
from stages.core.losses.margin_softmax_chunks import Plan


class Config(BaseModel, extra="forbid", frozen=True):
    """UniFace; the published program's defaults are margin 0.4, scale 64, negatives_weight 1."""

    name: Literal["uniface"]
    margin: float = Field(ge=0, lt=1, description="m: subtracted from the true class's cosine")
    scale: float = Field(64.0, gt=0, description="s")
    negatives_weight: float = Field(1.0, gt=0, description="l: factor of the other classes' losses")
    sample_rate: float = Field(
        1.0, gt=0, le=1, description="r: the threshold starts at log(10 r C); that of `class_sample_rate`"
    )


class Head(MarginHead):
    """Binary cross-entropy with each class, under a learned threshold."""

    def __init__(
        self, config: Config, feature_dim: int, num_classes: int, shard: Shard | None = None
    ) -> None:
        super().__init__(feature_dim, num_classes, config.scale, shard)
        self.config = config
        self.bias = nn.Parameter(torch.full((1,), math.log(10 * config.sample_rate * num_classes)))

    def initial(self, feature_dim: int) -> Tensor:
        """Return initial centres, drawn as published."""
        std = feature_dim**-0.5
        return drawn_rows(self.num_classes, feature_dim, self.shard, lambda rows: rows.normal_(std=std))

    def moved(self, target: Target) -> Tensor:
        """Return the cosine lowered by the margin."""
        return target.cosine_B - self.config.margin

    def forward(
        self, feature_BD: Tensor, label_B: Tensor, quality_B: Tensor | None = None, factor_B: Tensor | None = None
    ) -> HeadOutput:
        """Return the loss of a batch, and values to log; arguments as for every head.

        Raises:
            ValueError: a label is not in [0, C) (not checked on a GPU).
        """
        with autocast.off(feature_BD.device):
            whole_BD = self.shard.gather_features(feature_BD.to(self.weight.dtype))
            whole_label_B = self.shard.gather(label_B)
            scale_B1 = torch.full_like(whole_BD[:, :1], self.scale)
            if factor_B is not None:
                scale_B1 = scale_B1 * self.shard.gather(factor_B.detach().to(whole_BD.dtype))[:, None]
            embedding_BD, norm_B = directions(whole_BD)
            weight_CD, own_B = self.taking_part(whole_label_B)
            cosine_B = cosine_with_own(embedding_BD, weight_CD, own_B, self.shard)
            margin = self.ramp * self.config.margin
            loss_B = self.binary(self.bias - scale_B1[:, 0] * (cosine_B - margin))
            bias = self.shard.shared(self.bias)
            width = Plan(self.scale, tuning=self.tuning).width(*embedding_BD.shape)
            others_B, nearest_B = sum_of_others(
                embedding_BD, weight_CD, own_B, lambda cosine_BK: self.binary(scale_B1 * cosine_BK - bias), width,
                self.shard,
            )  # fmt: skip
            loss = (loss_B + self.config.negatives_weight * others_B).mean()
            nearest_L = self.shard.local(nearest_B)
            return self.output(loss, self.shard.local(cosine_B.detach()), nearest_L, norm_B)

    def binary(self, exponent: Tensor) -> Tensor:
        """Return log(1 + exp(exponent)), which is kept within +-s and has no gradient beyond."""
        return -functional.logsigmoid(-exponent.clamp(-self.scale, self.scale))

    def statistics(self) -> Mapping[str, Tensor]:
        """Return the threshold, as a cosine."""
        return {"threshold": self.bias.detach()[0] / self.scale}
