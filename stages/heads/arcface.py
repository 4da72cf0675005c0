"""ArcFace (Deng et al., CVPR 2019, eq. 3): an angular margin on the true class.

Published programs differ in what they do at the ends and in the gradient; each is a pair of switches here:

| program | gradient | beyond_pi |
|---|---|---|
| mk-minchul/AdaFace head.py at c60eaa78 | true_derivative | clip |
| HuangYG123/CurricularFace head/metrics.py at 68c8727f, and the first ArcFace | true_derivative | shift |
| the same with easy_margin=True | true_derivative | easy |
| deepinsight/insightface losses.py at 7fadd420 | straight_through | wrap |

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
from stages.core.losses.margin_head import MarginHead, Target
from stages.core.losses.negatives import Clamped, Filtered, Negatives


class Config(BaseModel, extra="forbid", frozen=True):
    """ArcFace and its published variants."""

    name: Literal["arcface"]
    margin: float = Field(ge=0, lt=1.5, description="radians, added to the true class's angle")
    scale: float = Field(64.0, gt=0, description="inverse softmax temperature")
    gradient: Literal["true_derivative", "straight_through"] = Field(
        "true_derivative",
        description="through acos and cos, or as if the margin were not there (insightface's in-place trick)",
    )
    beyond_pi: Literal["clip", "shift", "easy", "wrap"] = Field(
        "clip",
        description="where angle + margin passes pi; clip: it stays there, and all cosines within 1 - 1e-4; "
        "shift: cosine - margin*sin(margin); easy: no margin where the cosine is not positive; wrap: nothing",
    )
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

    def negatives(self, cosine_B: Tensor) -> Negatives:
        """Return the other cosines, clamped and filtered where the configuration says so."""
        limit = 1 - margin.ARCFACE_EPS if self.config.beyond_pi == "clip" else math.inf
        threshold = self.config.interclass_filter
        return Filtered(limit, threshold) if threshold else Clamped(limit)

    def moved(self, target: Target) -> Tensor:
        """Return the cosine moved by the margin."""
        limit = 1 - margin.ARCFACE_EPS if self.config.beyond_pi == "clip" else 1.0
        cosine_B = target.cosine_B.clamp(-limit, limit)
        if self.config.gradient == "straight_through":
            with torch.no_grad():
                moved_B = self.enlarged(cosine_B)
            return margin.straight_through(cosine_B, moved_B)
        return self.enlarged(cosine_B)

    def enlarged(self, cosine_B: Tensor) -> Tensor:
        """Return the cosine of the angle enlarged by the margin."""
        if self.config.beyond_pi == "clip":
            return margin.angular_clipped(cosine_B, self.config.margin, margin.ARCFACE_EPS)
        move = {"shift": margin.angular_or_shift, "easy": margin.angular_easy, "wrap": margin.angular_sum}
        return move[self.config.beyond_pi](cosine_B, self.config.margin)
