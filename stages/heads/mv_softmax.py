"""MV-Softmax (AAAI 2020; JDAI-CV/FaceX-Zoo head/MV_Softmax.py at 16b793a7): raises misclassified negatives.

Shapes: B batch.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from stages.core.losses import margin
from stages.core.losses.class_parallel import Shard
from stages.core.losses.margin_head import MarginHead, Target
from stages.core.losses.negatives import Negatives, Raised


class Config(BaseModel, extra="forbid", frozen=True):
    """MV-Softmax; FaceX-Zoo uses margin 0.35, weight 1.12, scale 32."""

    name: Literal["mv_softmax"]
    kind: Literal["am", "arc"] = Field(description="am: margin off the cosine; arc: margin on the angle")
    margin: float = Field(ge=0, lt=1.5, description="cosine for am, radians for arc")
    weight: float = Field(1.12, ge=1, description="t: a hard negative c becomes t*c + t - 1")
    scale: float = Field(32.0, gt=0, description="inverse softmax temperature")


class Head(MarginHead):
    """A margin on the target if it is easy; negatives above the moved target are raised."""

    def __init__(
        self, config: Config, feature_dim: int, num_classes: int, shard: Shard | None = None
    ) -> None:
        super().__init__(feature_dim, num_classes, config.scale, shard)
        self.config = config

    def moved(self, target: Target) -> Tensor:
        """Return the cosine lowered by the margin if it is easy."""
        cosine_B = target.cosine_B.clamp(-1, 1)
        # where the cosine is not above the margin, no margin: the published code's choice
        easy_from = self.config.margin if self.config.kind == "am" else 0.0
        return torch.where(cosine_B > easy_from, self.lowered(cosine_B), cosine_B)

    def negatives(self, cosine_B: Tensor) -> Negatives:
        """Return the other cosines, raised where they are above the lowered target."""
        return Raised(self.lowered(cosine_B.clamp(-1, 1)), self.config.weight)

    def lowered(self, cosine_B: Tensor) -> Tensor:
        """Return the cosine with the margin."""
        if self.config.kind == "am":
            return cosine_B - self.config.margin
        return margin.angular_sum(cosine_B, self.config.margin)
