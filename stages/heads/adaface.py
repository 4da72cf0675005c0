"""AdaFace (CVPR 2022; mk-minchul/AdaFace head.py at c60eaa78): the margin follows the feature norm.

The published code turns its running deviation into NaN for ever when a batch holds one sample. Here a
statistic that a batch cannot give (the deviation of one norm, anything not finite) leaves its buffer as it
was: with one sample the mean moves and the deviation stays. A deviation of zero is a value and is taken in.
With several processes, statistics are those of all their images, where the published code takes one process's.

The paper compares the norm with two other proxies of quality (section 4.2); their code is not published. Here all
are normalised alike. ``p_true_class`` is the softmax over scaled cosines without a margin.

Shapes: B batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from stages.core.errors import InputError
from stages.core.losses import margin
from stages.core.losses.class_parallel import Shard
from stages.core.losses.head import follow
from stages.core.losses.margin_head import MarginHead, Target
from stages.core.losses.negatives import Clamped, Negatives

MIN_NORM, MAX_NORM = 1e-3, 100.0
LIMIT = 1 - margin.ADAFACE_EPS

Proxy = Literal["feature_norm", "one_minus_brisque", "p_true_class"]
# before the first batch. The norm's are published; those of proxies in [0, 1] are ours: so wide that the scaler
# starts near 0, as it does with the published ones
INITIAL: dict[Proxy, tuple[float, float]] = {
    "feature_norm": (20.0, 100.0),
    "one_minus_brisque": (0.5, 1.0),
    "p_true_class": (0.5, 1.0),
}


class Config(BaseModel, extra="forbid", frozen=True):
    """AdaFace; its published scripts use margin 0.4, h 0.333, t_alpha 0.01."""

    name: Literal["adaface"]
    margin: float = Field(ge=0, lt=1, description="m: largest angular margin in radians")
    h: float = Field(description="concentration: share of a deviation of the proxy that saturates the margin")
    scale: float = Field(64.0, gt=0, description="inverse softmax temperature")
    t_alpha: float = Field(
        0.01, gt=0, le=1, description="weight of the newest batch in the statistics: 1 - the paper's .99"
    )
    program: Literal["adaface", "cvlface"] = Field(
        "adaface", description="cvlface: mk-minchul/CVLface at d3d09c93: the target's gradient as if there were no "
        "margin, cosines within 1 instead of 1 - 1e-3, angles not clipped"
    )
    proxy: Proxy = Field("feature_norm", description="measure of an image's quality; section 4.2 compares them")
    initial_mean: float | None = Field(
        None, ge=0, description="of the proxy, before the first batch; null: 20 for norms, 0.5 for others; QGFace: 0"
    )
    initial_std: float | None = Field(
        None, ge=0, description="of the proxy, before the first batch; null: 100 for norms, 1 for others; QGFace: 0"
    )


class Head(MarginHead):
    """Angular and additive margins that depend on each image's quality, without a gradient through it."""

    batch_mean: Tensor
    batch_std: Tensor

    def __init__(
        self, config: Config, feature_dim: int, num_classes: int, shard: Shard | None = None
    ) -> None:
        super().__init__(feature_dim, num_classes, config.scale, shard)
        self.config = config
        self.wants_quality = config.proxy == "one_minus_brisque"
        mean, std = INITIAL[config.proxy]
        self.register_buffer("batch_mean", torch.tensor(mean if config.initial_mean is None else config.initial_mean))
        self.register_buffer("batch_std", torch.tensor(std if config.initial_std is None else config.initial_std))

    def negatives(self, cosine_B: Tensor) -> Negatives:
        """Return the other cosines, within 1 - 1e-3 as published."""
        return Clamped(LIMIT if self.config.program == "adaface" else 1.0)

    def moved(self, target: Target) -> Tensor:
        """Return the cosine, within 1 - 1e-3 as published, moved by both margins."""
        scaler_B = self.margin_scaler(self.proxy(target))
        if self.config.program == "cvlface":
            cosine_B = target.cosine_B.clamp(-1, 1)
            with torch.no_grad():
                moved_B = torch.cos(cosine_B.acos() - self.config.margin * scaler_B)
            return margin.straight_through(cosine_B, moved_B - self.config.margin * (1 + scaler_B))
        cosine_B = target.cosine_B.clamp(-LIMIT, LIMIT)
        moved_B = margin.angular_clipped(cosine_B, -self.config.margin * scaler_B, margin.ADAFACE_EPS)
        return moved_B - self.config.margin * (1 + scaler_B)

    @torch.no_grad()
    def proxy(self, target: Target) -> Tensor:
        """Return the measure of each image's quality; higher is better."""
        if self.config.proxy == "feature_norm":
            return target.norm_B
        if self.config.proxy == "p_true_class":
            return target.probability_B
        if target.quality_B is None:
            raise InputError("the proxy one_minus_brisque needs the quality of each image: pass quality_B")
        return target.quality_B.to(target.norm_B.dtype)

    @torch.no_grad()
    def margin_scaler(self, proxy_B: Tensor) -> Tensor:
        """Return the normalised proxy in [-1, 1], high for high quality; the statistics are updated first."""
        # a batch with a proxy that is none has no mean: clamping would make an overflow the best quality of all
        proxy_B = torch.where(proxy_B.isfinite(), proxy_B, torch.nan)
        if self.config.proxy == "feature_norm":
            proxy_B = proxy_B.clamp(MIN_NORM, MAX_NORM)
        follow(self.batch_mean, proxy_B.mean(), self.config.t_alpha)
        if proxy_B.numel() > 1:
            follow(self.batch_std, proxy_B.std(), self.config.t_alpha)
        scaler_B = (proxy_B - self.batch_mean) / (self.batch_std + margin.ADAFACE_EPS)
        return (scaler_B * self.config.h).clamp(-1, 1)

    def statistics(self) -> Mapping[str, Tensor]:
        """Return the running mean and deviation of the proxy."""
        kind = "norm" if self.config.proxy == "feature_norm" else "proxy"
        return {f"{kind}_mean": self.batch_mean.detach().clone(), f"{kind}_std": self.batch_std.detach().clone()}
