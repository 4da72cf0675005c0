"""SphereFace and SphereFace-R (Liu et al., CVPR 2017, TPAMI 2022; ydwen/opensphere at a679e82): a factor on the angle.

The gradient is that of the cosine without a margin, as in both published programs (their "characteristic gradient
detachment"): model/head/spherefacer.py at 310d889, class SphereFaceR_H, and opensphere/module/head/sphereface.py at
a679e82, which is its v0. There centres are brought to unit length before each step, and their gradient is not taken
through that; here it is, as in every head: it lacks the part along the centre.

Shapes: B batch.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from stages.core.losses import margin
from stages.core.losses.class_parallel import Shard
from stages.core.losses.head import HeadOutput
from stages.core.losses.margin_head import MarginHead, Target
from stages.core.losses.negatives import Negatives, Widened

LIMIT = 1 - 1e-5


class Config(BaseModel, extra="forbid", frozen=True):
    """SphereFace; published: v0, margin 1.7, scale 64; SphereFace-R: v2, margin 1.4, scale 60, loss_weight 50/60."""

    name: Literal["sphereface"]
    margin: float = Field(ge=1, lt=8, description="m: multiplies the true class's angle")
    scale: float = Field(64.0, gt=0, description="inverse softmax temperature")
    variant: Literal["v0", "v1", "v2"] = Field(
        "v0", description="v0: cos(m angle), continued so that it falls all the way (SphereFace); v1: cos(m angle), the"
        " angle at most pi; v2: the true class's cosine as it is, the others' cos(angle / m)"
    )
    loss_weight: float = Field(1.0, gt=0, description="factor of the loss; SphereFaceR_H: lw / s, 50 / 60")


class Head(MarginHead):
    """A margin that multiplies the angle of the true class, or divides those of the others."""

    def __init__(
        self, config: Config, feature_dim: int, num_classes: int, shard: Shard | None = None
    ) -> None:
        super().__init__(feature_dim, num_classes, config.scale, shard)
        self.config = config

    def moved(self, target: Target) -> Tensor:
        """Return the true class's cosine with the margin, and the gradient of the cosine."""
        with torch.no_grad():
            moved_B = self.enlarged(target.cosine_B.clamp(-LIMIT, LIMIT))
        return margin.straight_through(target.cosine_B, moved_B)

    def enlarged(self, cosine_B: Tensor) -> Tensor:
        """Return the cosine of the multiplied angle."""
        if self.config.variant == "v2":
            return cosine_B
        angle_B = self.config.margin * cosine_B.acos()
        if self.config.variant == "v1":
            return angle_B.clamp(1e-5, 3.14159).cos()
        half_turns_B = (angle_B / math.pi).floor()
        sign_B = 1 - 2 * half_turns_B.remainder(2)
        return sign_B * angle_B.cos() - 2 * half_turns_B

    def negatives(self, cosine_B: Tensor) -> Negatives:
        """Return the other cosines: of their angles divided by the margin in v2, else unchanged."""
        return Widened(LIMIT, self.config.margin if self.config.variant == "v2" else 1.0)

    def output(self, loss: Tensor, cosine_B: Tensor, nearest_B: Tensor, norm_B: Tensor) -> HeadOutput:
        """Return the weighted loss, and values to log."""
        return super().output(self.config.loss_weight * loss, cosine_B, nearest_B, norm_B)
