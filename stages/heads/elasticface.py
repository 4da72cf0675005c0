"""ElasticFace (Boutros et al., CVPR workshops 2022; fdbtrs/ElasticFace utils/losses.py at 5496ec06): margins are drawn.

Each image's margin comes from a normal distribution. In the variant ``plus`` the drawn margins are sorted and given out
by the order of the cosines, as the published program does it: image i gets the margin at the place that the sorting of
the cosines names i-th (``margin[order]``), and not the one at image i's own place in that order.

The first process draws the margins of the whole batch for all; there each process draws its own. They depend on the
seed of the step alone, not on what else is drawn.

Shapes: B batch.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from stages.core.losses import margin
from stages.core.losses.class_parallel import Shard
from stages.core.losses.head import drawn_rows
from stages.core.losses.margin_head import MarginHead, Target

INITIAL_STD = 0.01
"""Standard deviation of initial centres, as published."""


class Config(BaseModel, extra="forbid", frozen=True):
    """ElasticFace; published (config.py): arc 0.5, deviation 0.05 (plus 0.0175); cosine 0.35, 0.05 (plus 0.02)."""

    name: Literal["elasticface"]
    margin_kind: Literal["arc", "cosine"] = Field(description="on the angle, radians, or off the cosine")
    margin: float = Field(ge=0, lt=1.5, description="mean of the margins")
    deviation: float = Field(0.05, ge=0, lt=1, description="standard deviation of the margins")
    plus: bool = Field(False, description="margins are sorted and given out by the order of the cosines")
    scale: float = Field(64.0, gt=0, description="inverse softmax temperature")


class Head(MarginHead):
    """A drawn margin on each image's true class."""

    def __init__(
        self, config: Config, feature_dim: int, num_classes: int, shard: Shard | None = None
    ) -> None:
        super().__init__(feature_dim, num_classes, config.scale, shard)
        self.config = config

    def initial(self, feature_dim: int) -> Tensor:
        """Return short initial centres."""
        return drawn_rows(self.num_classes, feature_dim, self.shard, lambda rows: rows.normal_(std=INITIAL_STD))

    def moved(self, target: Target) -> Tensor:
        """Return the cosine with each image's margin."""
        cosine_B = target.cosine_B.clamp(-1, 1)
        margin_B = self.margins(cosine_B.detach())
        if self.config.margin_kind == "cosine":
            return cosine_B - margin_B
        return margin.angular_sum(cosine_B, margin_B)

    @torch.no_grad()
    def margins(self, cosine_B: Tensor) -> Tensor:
        """Return the margins of the whole batch, the same in all processes."""
        margin_B = self.drawn(cosine_B)
        self.shard.first_([margin_B])
        if self.config.plus:
            return margin_B.sort().values[cosine_B.argsort(descending=True)]
        return margin_B

    def drawn(self, like_B: Tensor) -> Tensor:
        """Return margins drawn from the last seed of torch's generator, which is that of the step and the process."""
        generator = torch.Generator().manual_seed(torch.initial_seed())
        margin_B = torch.empty(len(like_B), device="cpu")
        margin_B.normal_(self.config.margin, self.config.deviation, generator=generator)
        pinned_B = margin_B.pin_memory() if like_B.device.type == "cuda" else margin_B
        return pinned_B.to(like_B.device, like_B.dtype, non_blocking=True)
