"""What heads do to the cosines with other classes: nothing, a clamp, or a rule for hard ones.

A rule is an elementwise function and its derivative. ``stages/core/log_sum.py`` calls both on chunks of the
classes; the plain path calls ``value`` on the whole and lets autograd differentiate.

Shapes: B batch, C classes (or a chunk of them).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Negatives:
    """Cosines as they are; subclasses change some of them."""

    @property
    def unchanged(self) -> tuple[float, float]:
        """The interval whose cosines stay as they are in every row: there ``value`` need not be called."""
        return -math.inf, math.inf

    @property
    def bound(self) -> float:
        """No value is further from 0 than this."""
        return 1.0

    def value(self, cosine_BC: Tensor) -> Tensor:
        """Return what stands in place of the cosines; differentiable."""
        return cosine_BC

    def slope(self, cosine_BC: Tensor) -> Tensor:
        """Return the derivative of ``value``."""
        return torch.ones_like(cosine_BC)


@dataclass(frozen=True)
class Clamped(Negatives):
    """Cosines within +-limit, without a gradient beyond."""

    limit: float

    @property
    def unchanged(self) -> tuple[float, float]:
        """Within the limit."""
        return -self.limit, self.limit

    def value(self, cosine_BC: Tensor) -> Tensor:
        """Return the clamped cosines."""
        return cosine_BC.clamp(-self.limit, self.limit)

    def slope(self, cosine_BC: Tensor) -> Tensor:
        """Return 1 within the limit, 0 beyond."""
        return (cosine_BC.abs() <= self.limit).to(cosine_BC.dtype)


@dataclass(frozen=True)
class Filtered(Clamped):
    """insightface's inter-class filter (losses.py at 7fadd420): a cosine above the threshold becomes 0.

    Meant for noisy labels: a class that is very near may be the same person under another label.
    """

    threshold: float

    @property
    def unchanged(self) -> tuple[float, float]:
        """From the lower limit up to the threshold."""
        return -self.limit, min(self.limit, self.threshold)

    def value(self, cosine_BC: Tensor) -> Tensor:
        """Return the clamped cosines, 0 for those above the threshold."""
        clamped_BC = super().value(cosine_BC)
        return clamped_BC.masked_fill(clamped_BC > self.threshold, 0)

    def slope(self, cosine_BC: Tensor) -> Tensor:
        """Return 1 for what is neither clamped nor filtered."""
        return super().slope(cosine_BC).masked_fill_(cosine_BC.clamp(max=self.limit) > self.threshold, 0)


@dataclass(frozen=True, eq=False)
class _Hard(Negatives):
    threshold_B: Tensor
    """A negative above its row's is hard."""

    @property
    def unchanged(self) -> tuple[float, float]:
        """Unknown: thresholds differ by row."""
        return math.inf, -math.inf

    def hard(self, cosine_BC: Tensor) -> Tensor:
        """Return which cosines are hard."""
        return cosine_BC > self.threshold_B[:, None]


@dataclass(frozen=True, eq=False)
class Curricular(_Hard):
    """CurricularFace eq. 5: a hard cosine c within [-1, 1] becomes c (t + c)."""

    t: Tensor

    @property
    def bound(self) -> float:
        """At most c = 1 and t = 1."""
        return 2.0

    def value(self, cosine_BC: Tensor) -> Tensor:
        """Return the cosines, hard ones weighted."""
        cosine_BC = cosine_BC.clamp(-1, 1)
        return torch.where(self.hard(cosine_BC), cosine_BC * (self.t + cosine_BC), cosine_BC)

    def slope(self, cosine_BC: Tensor) -> Tensor:
        """Return t + 2c for hard cosines, else 1; 0 beyond [-1, 1]."""
        slope_BC = torch.add(self.t, cosine_BC, alpha=2)
        slope_BC.masked_fill_(cosine_BC.clamp(-1, 1) <= self.threshold_B[:, None], 1)
        return slope_BC.masked_fill_(cosine_BC.abs() > 1, 0)


@dataclass(frozen=True, eq=False)
class Raised(_Hard):
    """MV-Softmax eq. 4: a hard cosine c becomes w c + w - 1."""

    weight: float

    @property
    def bound(self) -> float:
        """At c = 1."""
        return 2 * self.weight - 1

    def value(self, cosine_BC: Tensor) -> Tensor:
        """Return the cosines, hard ones raised."""
        raised_BC = self.weight * cosine_BC + (self.weight - 1)
        return torch.where(self.hard(cosine_BC), raised_BC, cosine_BC)

    def slope(self, cosine_BC: Tensor) -> Tensor:
        """Return the weight for hard cosines, else 1."""
        return torch.ones_like(cosine_BC).masked_fill_(self.hard(cosine_BC), self.weight)
