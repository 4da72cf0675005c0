"""Combined margins m1, m2, m3 (Deng et al., CVPR 2019, eq. 4; insightface's arcface_mxnet/train_parall.py at 7fadd420).

The true class's cosine becomes cos(m1 angle + m2) - m3: SphereFace's, ArcFace's and CosFace's margins at once, without
a rule beyond pi. Its arcface_torch (losses.py at 7fadd420) has the name and only two cases: heads ``arcface`` and
``cosface``. At the ends of the range, where the derivative of the angle is infinite, the published program has NaN;
here the cosine is kept within 1 - 1e-6 unless m1 is 1.

Shapes: B batch.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field
from torch import Tensor

from stages.core.losses import margin
from stages.core.losses.class_parallel import Shard
from stages.core.losses.margin_head import MarginHead, Target

LIMIT = 1 - 1e-6


class Config(BaseModel, extra="forbid", frozen=True):
    """Combined margins; published (sample_config.py): m1 1, m2 0.3, m3 0.2."""

    name: Literal["combined"]
    m1: float = Field(ge=1, lt=8, description="multiplies the true class's angle")
    m2: float = Field(ge=0, lt=1.5, description="radians, added to the multiplied angle")
    m3: float = Field(ge=0, lt=1, description="subtracted from the cosine")
    scale: float = Field(64.0, gt=0, description="inverse softmax temperature")


class Head(MarginHead):
    """Three margins on the true class."""

    def __init__(
        self, config: Config, feature_dim: int, num_classes: int, shard: Shard | None = None
    ) -> None:
        super().__init__(feature_dim, num_classes, config.scale, shard)
        self.config = config

    def moved(self, target: Target) -> Tensor:
        """Return the cosine with the three margins."""
        m1, m2, m3 = self.config.m1, self.config.m2, self.config.m3
        if m1 == 1:
            cosine_B = target.cosine_B.clamp(-1, 1)
            return (margin.angular_sum(cosine_B, m2) if m2 else cosine_B) - m3
        angle_B = target.cosine_B.clamp(-LIMIT, LIMIT).acos()
        return (m1 * angle_B + m2).cos() - m3
