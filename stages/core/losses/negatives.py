"""Rules of heads for the cosines with other classes: unchanged, clamped, or reweighted if they are hard.

A rule is an elementwise function and its derivative. ``stages/core/losses/margin_softmax.py`` calls both on chunks of
the classes; the plain path calls ``value`` on the whole and lets autograd differentiate.

Shapes: B batch, C classes (or a chunk of them).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Negatives:
    """Unchanged cosines; subclasses change some of them."""

    @property
    def unchanged(self) -> tuple[float, float]:
        """The interval whose cosines stay as they are in every row: there ``value`` need not be called."""
        return -math.inf, math.inf

    @property
    def bound(self) -> float:
        """Largest absolute value."""
        return 1.0

    def value(self, cosine_BC: Tensor) -> Tensor:
        """Return the new cosines; differentiable."""
        return cosine_BC

    def slope(self, cosine_BC: Tensor) -> Tensor:
        """Return the derivative of ``value``."""
        return torch.ones_like(cosine_BC)

    def bend_(self, logit_BC: Tensor, scale: float, *, asks: bool = True) -> Tensor:
        """Replace scale x cosine by scale x ``value``, in place; return ``slope``, as numbers or bool.

        Subclasses may do it faster, and look at values on the host first if it ``asks``.
        """
        cosine_BC = logit_BC / scale
        torch.mul(self.value(cosine_BC), scale, out=logit_BC)
        return self.slope(cosine_BC)


@dataclass(frozen=True)
class Clamped(Negatives):
    """Cosines clamped to +-limit, without a gradient beyond."""

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

    def bend_(self, logit_BC: Tensor, scale: float, *, asks: bool = True) -> Tensor:
        """Clamp scale x cosine, in place; return whether it was within the limit."""
        if asks:  # called for the few chunks with a cosine beyond
            return super().bend_(logit_BC, scale)
        top = self.limit * scale
        within_BC = logit_BC.abs() <= top
        logit_BC.clamp_(-top, top)
        return within_BC


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
        """Return 1 for cosines that are neither clamped nor filtered, else 0."""
        return super().slope(cosine_BC).masked_fill_(cosine_BC.clamp(max=self.limit) > self.threshold, 0)

    def bend_(self, logit_BC: Tensor, scale: float, *, asks: bool = True) -> Tensor:
        """Clamp and filter scale x cosine, in place; return whether it was neither clamped nor filtered."""
        slope_BC = super().bend_(logit_BC, scale, asks=asks)
        if asks:  # has applied ``value``
            return slope_BC
        near_BC = logit_BC > self.threshold * scale
        logit_BC.masked_fill_(near_BC, 0)
        return slope_BC.masked_fill_(near_BC, False)


@dataclass(frozen=True)
class Widened(Negatives):
    """SphereFace-R's (spherefacer.py at 310d889, v2): cos(angle / divisor), with the gradient of the cosine."""

    limit: float
    """Cosines are kept within it first."""
    divisor: float

    @property
    def unchanged(self) -> tuple[float, float]:
        """Within the limit if angles are not divided; else nowhere."""
        return (-self.limit, self.limit) if self.divisor == 1 else (math.inf, -math.inf)

    def value(self, cosine_BC: Tensor) -> Tensor:
        """Return the cosines of the divided angles."""
        with torch.no_grad():
            kept_BC = cosine_BC.clamp(-self.limit, self.limit)
            new_BC = kept_BC if self.divisor == 1 else (kept_BC.acos() / self.divisor).cos()
        return cosine_BC + (new_BC - cosine_BC).detach()


@dataclass(frozen=True, eq=False)
class _Hard(Negatives):
    threshold_B: Tensor
    """A negative above the threshold of its row is hard."""

    @property
    def unchanged(self) -> tuple[float, float]:
        """Unknown, because thresholds differ by row."""
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

    def bend_(self, logit_BC: Tensor, scale: float, *, asks: bool = True) -> Tensor:
        """Change scale x cosine to scale x ``value``, in place; return ``slope``."""
        if not asks:
            beyond_BC = logit_BC.abs() > scale
            return self._bend_within(logit_BC.clamp_(-scale, scale), scale).masked_fill_(beyond_BC, 0)
        low, high = logit_BC.aminmax()
        if low < -scale or high > scale:  # by rounding: as rare as equal centres
            return super().bend_(logit_BC, scale)
        return self._bend_within(logit_BC, scale)

    def _bend_within(self, logit_BC: Tensor, scale: float) -> Tensor:
        easy_BC = logit_BC <= scale * self.threshold_B[:, None]
        # c (t + c) = c + c u and t + 2c = 2u + 2 - t with u = t + c - 1, which is 0 for what is not hard
        u_BC = torch.add(self.t - 1, logit_BC, alpha=1 / scale).masked_fill_(easy_BC, 0)
        logit_BC.addcmul_(logit_BC, u_BC)
        return u_BC.mul_(2).add_(2 - self.t).masked_fill_(easy_BC, 1)


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

    def bend_(self, logit_BC: Tensor, scale: float, *, asks: bool = True) -> Tensor:
        """Change scale x cosine to scale x ``value``, in place; return ``slope``."""
        easy_BC = logit_BC <= scale * self.threshold_B[:, None]
        # w c + w - 1 = c + (w - 1) (c + 1)
        rise_BC = torch.add(logit_BC, scale).mul_(self.weight - 1).masked_fill_(easy_BC, 0)
        logit_BC.add_(rise_BC)
        return rise_BC.fill_(self.weight).masked_fill_(easy_BC, 1)
