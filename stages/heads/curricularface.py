"""CurricularFace (CVPR 2020; HuangYG123/CurricularFace head/metrics.py at 68c8727f): hard negatives, later.

The running mean of the target cosine is taken per process and before use, as published, and on every call.

Shapes: B batch, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn

from stages.core import margin
from stages.core.head import CosineHead, follow, pick, put


class Config(BaseModel, extra="forbid", frozen=True):
    """CurricularFace; published margin 0.5."""

    name: Literal["curricularface"]
    margin: float = Field(ge=0, lt=1.5, description="radians, added to the true class's angle")
    scale: float = Field(64.0, gt=0, description="inverse softmax temperature")
    t_alpha: float = Field(0.01, gt=0, le=1, description="weight of the newest batch in t")


class Head(CosineHead):
    """An angular margin on the target; negatives above it are multiplied by t + their cosine."""

    t: Tensor

    def __init__(self, config: Config, feature_dim: int, num_classes: int) -> None:
        super().__init__(feature_dim, num_classes, config.scale)
        self.config = config
        nn.init.normal_(self.weight, std=0.01)  # as published: shorter centres turn faster at one rate
        self.register_buffer("t", torch.tensor(0.0))

    def with_margin(self, cosine_BC: Tensor, norm_B: Tensor, label_B: Tensor) -> Tensor:
        """Return the cosines with the target lowered by the margin and hard negatives weighted."""
        cosine_BC = cosine_BC.clamp(-1, 1)
        cosine_B = pick(cosine_BC, label_B)
        follow(self.t, cosine_B.mean(), self.config.t_alpha)
        hard_BC = cosine_BC > margin.angular_sum(cosine_B, self.config.margin)[:, None]
        weighted_BC = torch.where(hard_BC, cosine_BC * (self.t.clone() + cosine_BC), cosine_BC)
        return put(weighted_BC, margin.angular_or_shift(cosine_B, self.config.margin), label_B)

    def statistics(self) -> Mapping[str, Tensor]:
        """Return the running mean of the target cosine."""
        return {"t": self.t.detach().clone()}
