"""CurricularFace (CVPR 2020; HuangYG123/CurricularFace head/metrics.py at 68c8727f): hard negatives late in training.

The running mean of the target cosine is taken before use, as published, and on every call; over the images of all
processes where the published code takes one process's.

Shapes: B batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from stages.core.losses import margin
from stages.core.losses.class_parallel import Shard
from stages.core.losses.head import drawn_rows, follow
from stages.core.losses.margin_head import MarginHead, Target
from stages.core.losses.negatives import Curricular, Negatives

INITIAL_STD = 0.01
"""Standard deviation of initial centres, as published: shorter centres turn faster at the same learning rate."""


class Config(BaseModel, extra="forbid", frozen=True):
    """CurricularFace; published margin 0.5."""

    name: Literal["curricularface"]
    margin: float = Field(ge=0, lt=1.5, description="radians, added to the true class's angle")
    scale: float = Field(64.0, gt=0, description="inverse softmax temperature")
    t_alpha: float = Field(0.01, gt=0, le=1, description="weight of the newest batch in t")


class Head(MarginHead):
    """An angular margin on the target; negatives above it are multiplied by t + their cosine."""

    t: Tensor

    def __init__(
        self, config: Config, feature_dim: int, num_classes: int, shard: Shard | None = None
    ) -> None:
        super().__init__(feature_dim, num_classes, config.scale, shard)
        self.config = config
        self.register_buffer("t", torch.tensor(0.0))

    def initial(self, feature_dim: int) -> Tensor:
        """Return short initial centres."""
        return drawn_rows(self.num_classes, feature_dim, self.shard, lambda rows: rows.normal_(std=INITIAL_STD))

    def negatives(self, cosine_B: Tensor) -> Negatives:
        """Return the rule that weights hard negatives by t, which is updated first."""
        cosine_B = cosine_B.clamp(-1, 1)
        follow(self.t, cosine_B.mean(), self.config.t_alpha)
        return Curricular(margin.angular_sum(cosine_B, self.config.margin), self.t.clone())

    def moved(self, target: Target) -> Tensor:
        """Return the cosine lowered by the margin."""
        return margin.angular_or_shift(target.cosine_B.clamp(-1, 1), self.config.margin)

    def statistics(self) -> Mapping[str, Tensor]:
        """Return the running mean of the target cosine."""
        return {"t": self.t.detach().clone()}
