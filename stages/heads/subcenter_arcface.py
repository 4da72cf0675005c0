"""Sub-center ArcFace (Deng et al., ECCV 2020; insightface subcenter_arcface at 7fadd420): K centres for each class.

A class's cosine is the largest with one of its K sub-centres. So a wrongly labelled or unusual image pulls at a centre
of its own, and not at that of the clean ones. The margin is ArcFace's, on the true class's cosine, without a rule
beyond pi (train_parall.py with loss_m1 1, loss_m3 0).

A row of ``weight`` holds the sub-centres of a class one after another, (C, K D). What comes after the training takes
one of them (``stages/core/losses/sub_centres.py``).

Shapes: B batch, C classes, K sub-centres of a class, D feature dimensions, X = K D.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from stages.core.errors import InputError
from stages.core.losses import margin
from stages.core.losses.class_parallel import Shard
from stages.core.losses.class_values import cosine_with_own, cosines_with_each, log_sum_of_others
from stages.core.losses.head import directions, drawn_rows
from stages.core.losses.margin_head import MarginHead, Target
from stages.core.losses.margin_softmax import Sums
from stages.core.losses.margin_softmax_chunks import Plan

INITIAL_STD = 0.01
"""Standard deviation of initial centres, as published."""


class Config(BaseModel, extra="forbid", frozen=True):
    """Sub-center ArcFace; published: margin 0.5, 3 centres."""

    name: Literal["subcenter_arcface"]
    margin: float = Field(ge=0, lt=1.5, description="radians, added to the true class's angle")
    centres: int = Field(3, ge=1, description="K: sub-centres of each class")
    scale: float = Field(64.0, gt=0, description="inverse softmax temperature")


class Head(MarginHead):
    """ArcFace's margin on the cosine with the nearest of a class's sub-centres."""

    def __init__(
        self, config: Config, feature_dim: int, num_classes: int, shard: Shard | None = None
    ) -> None:
        self.centres = config.centres
        super().__init__(feature_dim, num_classes, config.scale, shard)
        self.config = config

    def initial(self, feature_dim: int) -> Tensor:
        """Return short initial sub-centres, those of a class in one row."""
        width = self.centres * feature_dim
        return drawn_rows(self.num_classes, width, self.shard, lambda rows: rows.normal_(std=INITIAL_STD))

    def moved(self, target: Target) -> Tensor:
        """Return the cosine of the angle enlarged by the margin."""
        return margin.angular_sum(target.cosine_B.clamp(-1, 1), self.config.margin)

    def cosines(self, feature_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosine_BC of every feature with the nearest sub-centre of every class, and norm_B of the features.

        Raises:
            ValueError: this process holds only some of the classes.
        """
        if self.shard.world_size > 1:
            raise InputError("this head holds one shard of the classes and cannot return all cosines: use `forward`")
        embedding_BD, norm_B = directions(feature_BD)
        return cosines_with_each(embedding_BD, self.weight), norm_B

    def sums(self, embedding_BD: Tensor, label_B: Tensor, factor_B: Tensor | None) -> Sums:
        """Return the sums over all classes of all ranks."""
        weight_CX, own_B = self.taking_part(label_B)
        cosine_B = cosine_with_own(embedding_BD, weight_CX, own_B, self.shard)
        scale_B = torch.full_like(cosine_B, self.scale) if factor_B is None else self.scale * factor_B
        # a chunk is K times as large as other heads', as the centres are
        width = Plan(self.scale, tuning=self.tuning).width(*embedding_BD.shape)
        found = log_sum_of_others(embedding_BD, weight_CX, own_B, scale_B, width, self.shard)
        return Sums(cosine_B, *found)
