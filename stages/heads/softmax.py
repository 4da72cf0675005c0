"""Plain softmax over scaled cosines (NormFace, Wang et al., 2017): the baseline without a margin.

Shapes: B batch.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field
from torch import Tensor

from stages.core.losses.class_parallel import Shard
from stages.core.losses.margin_head import MarginHead, Target


class Config(BaseModel, extra="forbid", frozen=True):
    """NormFace."""

    name: Literal["softmax"]
    scale: float = Field(64.0, gt=0, description="inverse softmax temperature")


class Head(MarginHead):
    """Unchanged cosines."""

    def __init__(
        self, config: Config, feature_dim: int, num_classes: int, shard: Shard | None = None
    ) -> None:
        super().__init__(feature_dim, num_classes, config.scale, shard)
        self.config = config

    def moved(self, target: Target) -> Tensor:
        """Return the cosines."""
        return target.cosine_B
