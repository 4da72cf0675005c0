"""What a quality method may learn from and what it has learned, the same for every method.

Shapes: N images, C classes, D feature dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Material:
    """Training images as the frozen backbone sees them, augmented as in its own training."""

    feature_ND: Tensor
    """Before normalising."""
    label_N: Tensor
    centre_CD: Tensor
    """The head's class centres, not normalised."""
    layer: Mapping[str, Tensor] | None = None
    """Weight (1, D) and bias (1,) of the layer that the run's objective has trained, where it trains one."""


@dataclass(frozen=True)
class Learned:
    """Weights of a method and what to report of its training; a method without training has neither."""

    weights: Mapping[str, Tensor] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
