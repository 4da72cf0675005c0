"""CosFace (Wang et al., CVPR 2018, eq. 4; mk-minchul/AdaFace head.py): a margin subtracted from the true cosine.

Shapes: B batch.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field
from torch import Tensor

from stages.core.losses import margin
from stages.core.losses.class_parallel import Shard
from stages.core.losses.margin_head import MarginHead, Target
from stages.core.losses.negatives import Clamped, Filtered, Negatives

LIMIT = 1 - margin.ARCFACE_EPS


class Config(BaseModel, extra="forbid", frozen=True):
    """CosFace."""

    name: Literal["cosface"]
    margin: float = Field(ge=0, lt=1, description="subtracted from the true class's cosine")
    scale: float = Field(64.0, gt=0, description="inverse softmax temperature")
    interclass_filter: float = Field(
        0.0, ge=0, le=1, description="a negative with a cosine above it counts as 0 (insightface, noisy labels: 0.4);"
        " 0: off"
    )


class Head(MarginHead):
    """Logits with the margin of ``config``."""

    def __init__(
        self, config: Config, feature_dim: int, num_classes: int, shard: Shard | None = None
    ) -> None:
        super().__init__(feature_dim, num_classes, config.scale, shard)
        self.config = config

    def moved(self, target: Target) -> Tensor:
        """Return the cosine, within 1 - 1e-4 as published, lowered by the margin."""
        return target.cosine_B.clamp(-LIMIT, LIMIT) - self.config.margin

    def negatives(self, cosine_B: Tensor) -> Negatives:
        """Return the other cosines, within 1 - 1e-4, filtered where the configuration says so."""
        threshold = self.config.interclass_filter
        return Filtered(LIMIT, threshold) if threshold else Clamped(LIMIT)
