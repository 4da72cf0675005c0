"""AdaFace's normalised feature norm as a separate statistic, for objectives whose head keeps none.

AdaFace (CVPR 2022, eq. 14), started at 0 as in IsidoreSong/QGFace head.py at c1cfa7b6. Over all processes' images.

Shapes: B batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stages.core.losses.class_parallel import Shard
from stages.core.losses.head import follow

MIN_NORM, MAX_NORM = 1e-3, 100.0
EPS = 1e-3


class NormScaler(nn.Module):
    """Running mean and deviation of the feature norms."""

    mean: Tensor
    std: Tensor

    def __init__(self, h: float, t_alpha: float, mean: float = 0.0, std: float = 0.0) -> None:
        super().__init__()
        self.h, self.t_alpha = h, t_alpha
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    @torch.no_grad()
    def forward(self, norm_B: Tensor, shard: Shard) -> Tensor:
        """Return the scaled norm in [-1, 1], high for high quality; the statistics are updated first."""
        norm_B = torch.where(norm_B.isfinite(), norm_B, torch.nan).clamp(MIN_NORM, MAX_NORM)
        whole_B = shard.gather(norm_B)
        follow(self.mean, whole_B.mean(), self.t_alpha)
        if whole_B.numel() > 1:
            follow(self.std, whole_B.std(), self.t_alpha)
        return ((norm_B - self.mean) / (self.std + EPS) * self.h).clamp(-1, 1)
