"""MV-Softmax (AAAI 2020; JDAI-CV/FaceX-Zoo head/MV_Softmax.py at 16b793a7): misclassified negatives grow.

Shapes: B batch, C classes.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from stages.core import margin
from stages.core.head import CosineHead, pick, put


class Config(BaseModel, extra="forbid", frozen=True):
    """MV-Softmax; FaceX-Zoo uses margin 0.35, weight 1.12, scale 32."""

    name: Literal["mv_softmax"]
    kind: Literal["am", "arc"] = Field(description="am: margin off the cosine; arc: margin on the angle")
    margin: float = Field(ge=0, lt=1.5, description="cosine for am, radians for arc")
    weight: float = Field(1.12, ge=1, description="t: a hard negative c becomes t*c + t - 1")
    scale: float = Field(32.0, gt=0, description="inverse softmax temperature")


class Head(CosineHead):
    """A margin on the target where it is easy; negatives above the moved target are raised."""

    def __init__(self, config: Config, feature_dim: int, num_classes: int) -> None:
        super().__init__(feature_dim, num_classes, config.scale)
        self.config = config

    def with_margin(self, cosine_BC: Tensor, norm_B: Tensor, label_B: Tensor) -> Tensor:
        """Return the cosines with the target lowered and hard negatives raised."""
        cosine_B = pick(cosine_BC, label_B).clamp(-1, 1)
        if self.config.kind == "am":
            moved_B = cosine_B - self.config.margin
            # where the cosine is not above the margin, no margin: the published code's choice
            final_B = torch.where(cosine_B > self.config.margin, moved_B, cosine_B)
        else:
            moved_B = margin.angular_sum(cosine_B, self.config.margin)
            final_B = torch.where(cosine_B > 0, moved_B, cosine_B)
        weight = self.config.weight
        hard_BC = cosine_BC > moved_B.detach()[:, None]
        raised_BC = torch.where(hard_BC, weight * cosine_BC + weight - 1, cosine_BC)
        return put(raised_BC, final_B, label_B)
