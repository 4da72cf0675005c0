"""MagFace (CVPR 2021; IrvingMeng/MagFace models/magface.py at 99bae614): margin and penalty follow the norm.

Both the margin and the penalty push on the norm: it is not detached. Outside [min_norm, max_norm] neither
does, as published. The norm of a trained backbone, un-clamped, is its quality score.

Shapes: B batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import BaseModel, Field, model_validator
from torch import Tensor

from stages.core.errors import InputError
from stages.core.losses import margin
from stages.core.losses.class_parallel import Shard
from stages.core.losses.margin_head import MarginHead, Target


class Config(BaseModel, extra="forbid", frozen=True):
    """MagFace; published: norms 10..110, margins 0.45..0.8, weight 35, a last batch norm with scale."""

    name: Literal["magface"]
    min_norm: float = Field(10.0, gt=0, description="l_a")
    max_norm: float = Field(110.0, gt=0, description="u_a, where the penalty is least")
    min_margin: float = Field(0.45, ge=0, lt=1.5, description="l_m: at min_norm; radians, or cosine")
    max_margin: float = Field(0.8, ge=0, lt=1.5, description="u_m: at max_norm")
    norm_weight: float = Field(35.0, ge=0, description="lambda_g: of a/u_a^2 + 1/a")
    scale: float = Field(64.0, gt=0, description="inverse softmax temperature")
    margin_kind: Literal["arc", "cosine"] = Field("arc", description="on the angle, or off the cosine")
    easy_margin: bool = Field(True, description="none where cosine <= 0; else ArcFace's line")

    @model_validator(mode="after")
    def ranges_rise(self) -> Self:
        """Refuse an empty interval or a margin that falls with the norm."""
        if self.min_norm >= self.max_norm or self.min_margin > self.max_margin:
            raise InputError("min_norm must be below max_norm, and min_margin not above max_margin")
        return self


class Head(MarginHead):
    """A margin that grows linearly with the norm, and a penalty that favours large norms."""

    def __init__(
        self, config: Config, feature_dim: int, num_classes: int, shard: Shard | None = None
    ) -> None:
        super().__init__(feature_dim, num_classes, config.scale, shard)
        self.config = config

    def moved(self, target: Target) -> Tensor:
        """Return the cosine lowered by each feature's margin."""
        config = self.config
        slope = (config.max_margin - config.min_margin) / (config.max_norm - config.min_norm)
        rise_B = target.norm_B.clamp(config.min_norm, config.max_norm) - config.min_norm
        margin_B = config.min_margin + slope * rise_B
        cosine_B = target.cosine_B.clamp(-1, 1)
        if config.margin_kind == "cosine":
            return cosine_B - margin_B
        if config.easy_margin:
            return margin.angular_easy(cosine_B, margin_B)
        return margin.angular_or_shift(cosine_B, margin_B)

    def penalty(self, norm_B: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return lambda_g times the mean of a/u_a^2 + 1/a."""
        norm_B = norm_B.clamp(self.config.min_norm, self.config.max_norm)
        penalty = (norm_B / self.config.max_norm**2 + 1 / norm_B).mean()
        return self.config.norm_weight * penalty, {"norm_penalty": penalty.detach()}
