"""CosFace (Wang et al., CVPR 2018, eq. 4; mk-minchul/AdaFace head.py): a margin off the true class's cosine.

Shapes: B batch, C classes.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field
from torch import Tensor

from stages.core import margin
from stages.core.head import CosineHead, pick, put


class Config(BaseModel, extra="forbid", frozen=True):
    """CosFace."""

    name: Literal["cosface"]
    margin: float = Field(ge=0, lt=1, description="subtracted from the true class's cosine")
    scale: float = Field(64.0, gt=0, description="inverse softmax temperature")


class Head(CosineHead):
    """Logits with the margin of ``config``."""

    def __init__(self, config: Config, feature_dim: int, num_classes: int) -> None:
        super().__init__(feature_dim, num_classes, config.scale)
        self.config = config

    def with_margin(self, cosine_BC: Tensor, norm_B: Tensor, label_B: Tensor) -> Tensor:
        """Return the cosines, within 1 - 1e-4 as published, with the true class's lowered by the margin."""
        limit = 1 - margin.ARCFACE_EPS
        cosine_BC = cosine_BC.clamp(-limit, limit)
        return put(cosine_BC, pick(cosine_BC, label_B) - self.config.margin, label_B)
