"""Plain softmax over scaled cosines (NormFace, Wang et al., 2017): the baseline without a margin.

Shapes: B batch, C classes.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field
from torch import Tensor

from stages.core.head import CosineHead


class Config(BaseModel, extra="forbid", frozen=True):
    """NormFace."""

    name: Literal["softmax"]
    scale: float = Field(64.0, gt=0, description="inverse softmax temperature")


class Head(CosineHead):
    """Cosines as they are."""

    def __init__(self, config: Config, feature_dim: int, num_classes: int) -> None:
        super().__init__(feature_dim, num_classes, config.scale)
        self.config = config

    def with_margin(self, cosine_BC: Tensor, norm_B: Tensor, label_B: Tensor) -> Tensor:
        """Return the cosines."""
        return cosine_BC
