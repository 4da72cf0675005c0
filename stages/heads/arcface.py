"""ArcFace (Deng et al., CVPR 2019, eq. 3): an angular margin on the true class.

Published programs differ in what they do at the ends and in the gradient; each is a pair of switches here:

| program | gradient | beyond_pi |
|---|---|---|
| mk-minchul/AdaFace head.py at c60eaa78 | true_derivative | clip |
| HuangYG123/CurricularFace head/metrics.py at 68c8727f, and the first ArcFace | true_derivative | shift |
| the same with easy_margin=True | true_derivative | easy |
| deepinsight/insightface losses.py at 7fadd420 | straight_through | wrap |

Shapes: B batch, C classes.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from stages.core import margin
from stages.core.head import CosineHead, pick, put


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


class Head(CosineHead):
    """Logits with the margin of ``config``."""

    def __init__(self, config: Config, feature_dim: int, num_classes: int) -> None:
        super().__init__(feature_dim, num_classes, config.scale)
        self.config = config

    def with_margin(self, cosine_BC: Tensor, norm_B: Tensor, label_B: Tensor) -> Tensor:
        """Return the cosines with that of the true class moved by the margin."""
        if self.config.beyond_pi == "clip":
            limit = 1 - margin.ARCFACE_EPS
            cosine_BC = cosine_BC.clamp(-limit, limit)
        cosine_B = pick(cosine_BC, label_B).clamp(-1, 1)
        if self.config.gradient == "straight_through":
            with torch.no_grad():
                moved_B = self.moved(cosine_B)
            moved_B = margin.straight_through(cosine_B, moved_B)
        else:
            moved_B = self.moved(cosine_B)
        return put(cosine_BC, moved_B, label_B)

    def moved(self, cosine_B: Tensor) -> Tensor:
        """Return the cosine of the angle enlarged by the margin."""
        if self.config.beyond_pi == "clip":
            return margin.angular_clipped(cosine_B, self.config.margin, margin.ARCFACE_EPS)
        move = {"shift": margin.angular_or_shift, "easy": margin.angular_easy, "wrap": margin.angular_sum}
        return move[self.config.beyond_pi](cosine_B, self.config.margin)
