"""Margins on the true class's cosine, as published, with the conventions at the ends of the range.

Shapes: B batch. Cosines in [-1, 1]; angles and angular margins in radians.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# AdaFace head.py (ArcFace, CosFace) clamps every cosine to 1 - 1e-4; its AdaFace class to 1 - 1e-3
ARCFACE_EPS = 1e-4
ADAFACE_EPS = 1e-3


def angular_clipped(cosine_B: Tensor, margin_B: Tensor | float, eps: float) -> Tensor:
    """Return cos(clip(acos(c) + margin, eps, pi - eps)): AdaFace head.py; the angle is clipped at pi.

    ``cosine_B`` must be within 1 - eps already, so that the derivative of acos is finite.
    """
    return torch.cos((torch.acos(cosine_B) + margin_B).clamp(eps, math.pi - eps))


def angular_sum(cosine_B: Tensor, margin_B: Tensor | float) -> Tensor:
    """Return cos(acos(c) + margin) by the sum formula: no convention beyond pi, where it rises again."""
    margin_B = _on_device(margin_B, cosine_B)
    return cosine_B * torch.cos(margin_B) - sine(cosine_B) * torch.sin(margin_B)


def angular_or_shift(cosine_B: Tensor, margin_B: Tensor | float) -> Tensor:
    """Return cos(acos(c) + margin), or c - margin*sin(margin) where the sum passes pi (first ArcFace)."""
    margin_B = _on_device(margin_B, cosine_B)
    # sin(pi - m) = sin(m): the line is continuous with neither side, as published
    shifted_B = cosine_B - margin_B * torch.sin(margin_B)
    return torch.where(cosine_B > -torch.cos(margin_B), angular_sum(cosine_B, margin_B), shifted_B)


def angular_easy(cosine_B: Tensor, margin_B: Tensor | float) -> Tensor:
    """Return cos(acos(c) + margin) where c > 0, else c: the "easy margin" (MagFace's default)."""
    return torch.where(cosine_B > 0, angular_sum(cosine_B, margin_B), cosine_B)


def straight_through(cosine_B: Tensor, target_B: Tensor) -> Tensor:
    """Return the values of ``target_B`` with the gradient of ``cosine_B`` (insightface's margin)."""
    return cosine_B + (target_B - cosine_B).detach()


def sine(cosine_B: Tensor) -> Tensor:
    """Return sqrt(1 - c^2); at exactly +-1, where its derivative is infinite, that is taken as 0."""
    return (1 - cosine_B.square()).clamp_min(torch.finfo(cosine_B.dtype).tiny).sqrt()


def _on_device(margin_B: Tensor | float, like_B: Tensor) -> Tensor:
    """Return a margin in the type and on the device of the cosines."""
    # a number is filled in there: copied there, it would make a GPU's host wait
    return margin_B.to(like_B) if isinstance(margin_B, Tensor) else like_B.new_full((), margin_B)
