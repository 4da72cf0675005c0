"""Gradient scaling term of a head (AdaFace, CVPR 2022, section 3.1 and figure 3): how hard the loss pulls at a feature.

By the chain rule the gradient of the loss with respect to a feature is a sum over classes of a number times a
direction. The number of the true class is ``s (P_y - 1) df/dcos``: P_y is its softmax probability, f the head's change
of its cosine, s the scale. Only that number differs from head to head. Here autograd takes it from the head itself, and
it is divided by s. A head with a threshold (UniFace) is no softmax: it judges each class by itself, and P_y is the
sigmoid of s times the distance to the threshold.

There are two classes, as in the figure: the true one at angle 0, the other at the angle ``apart``, features between.

Shapes: K points (an angle and a norm each).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from stages.core.errors import InputError
from stages.core.losses.head import CosineHead

STILL = 1e-12
"""Weight of a batch in a head's running statistics (``t_alpha``) at which they stay where they were set."""


def gradient_scaling(head: CosineHead, angle_K: Tensor, norm_K: Tensor, apart: float) -> Tensor:
    """Return |P_y - 1| |df/dcos| of each point: 1 for a hopeless sample under plain softmax, 0 for one that is learned.

    Args:
        head: of two classes; its running statistics take the points in.
        angle_K: radians from the true class's centre, between 0 and ``apart``; float64.
        norm_K: of the feature.
        apart: radians between the two centres.

    Raises:
        ValueError: the head needs a quality that is no feature norm.
    """
    cosine_K2 = torch.stack([angle_K.cos(), (apart - angle_K).cos()], dim=1).requires_grad_()
    moved_K2 = _moved(head, cosine_K2, norm_K)
    (gradient_K2,) = torch.autograd.grad(functional.softplus(-head.scale * _ahead(head, moved_K2)).sum(), cosine_K2)
    return gradient_K2[:, 0].abs() / head.scale


def lead(head: CosineHead, angle_K: Tensor, norm_K: Tensor, apart: float) -> Tensor:
    """Return how far the true class's cosine is above the other's after the margin; 0 where both are equally likely."""
    cosine_K2 = torch.stack([angle_K.cos(), (apart - angle_K).cos()], dim=1)
    with torch.no_grad():
        moved_K2 = _moved(head, cosine_K2, norm_K)
    return _ahead(head, moved_K2)


def _ahead(head: CosineHead, moved_K2: Tensor) -> Tensor:
    """Return how far the true class is above what it is compared with: the other class, or the head's threshold."""
    threshold = head.statistics().get("threshold")
    return moved_K2[:, 0] - (moved_K2[:, 1] if threshold is None else threshold)


def cosine_shift(head: CosineHead, angle_K: Tensor, norm_K: Tensor) -> Tensor:
    """Return by how much the head lowers the true class's cosine, with the other class opposite to the feature."""
    cosine_K2 = torch.stack([angle_K.cos(), torch.full_like(angle_K, -1.0)], dim=1)
    with torch.no_grad():
        return cosine_K2[:, 0] - _moved(head, cosine_K2, norm_K)[:, 0]


def angle_shift(head: CosineHead, angle_K: Tensor, norm_K: Tensor) -> Tensor:
    """Return by how many radians the head enlarges the true class's angle; NaN where no angle has that cosine."""
    lowered_K = angle_K.cos() - cosine_shift(head, angle_K, norm_K)
    return torch.where(lowered_K.abs() <= 1, lowered_K.clamp(-1, 1).acos() - angle_K, math.nan)


def _moved(head: CosineHead, cosine_K2: Tensor, norm_K: Tensor) -> Tensor:
    """Return the cosines with the head's margin on the first class."""
    if head.wants_quality:
        raise InputError(f"{type(head).__module__}: its margin follows a quality that is no feature norm, so there is"
                         " nothing to draw over norms")
    return head.with_margin(cosine_K2, norm_K, torch.zeros(len(norm_K), dtype=torch.int64))
