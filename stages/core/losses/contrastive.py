"""Contrastive learning between a clear and an unclear view of each face, weighted by quality (QGFace).

IsidoreSong/QGFace head.py at c1cfa7b6. Cosines stand as [positive | queue]; a cell of the queue that shows the same
person is no negative: its cosine is set to 0, as published, so that it still stands in the sum with e^0.

Shapes: B pairs, R rows (B, or 2B with both directions), K queue, D feature dimensions.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

EPS = 1e-3
REFERENCE = math.log(129)
"""Loss of equal logits over one positive and 128 negatives, to which the loss of any queue size is rescaled."""

Select = Literal["low", "mean", "high"]
Shape = Literal["sgn", "cos", "linear"]
Span = Literal["half", "whole"]


def split_factor(scaler_B: Tensor, threshold: float, scale: float) -> Tensor:
    """Return the factor of an image's logits in quality-split classification: about 1 above the threshold, else 0.

    Args:
        scaler_B: normalised norm in [-1, 1], high for high quality.
        threshold: b in [0, 1], of (scaler + 1) / 2; 0 splits nothing and gives ones.
        scale: of the logits, which makes the step steep.

    >>> split_factor(torch.tensor([-0.9, 0.5]), 0.2, 64.0).round(decimals=4).tolist()
    [0.0, 1.0]
    """
    if threshold == 0:
        return torch.ones_like(scaler_B)
    return torch.sigmoid(scale * (scaler_B + 2 * (0.5 - threshold)))


def pair_quality(first_B: Tensor, second_B: Tensor, select: Select) -> Tensor:
    """Return the quality of pairs in [0, 1] from the scalers in [-1, 1] of their views."""
    first_B, second_B = (first_B + 1) / 2, (second_B + 1) / 2
    if select == "low":
        return torch.minimum(first_B, second_B)
    return torch.maximum(first_B, second_B) if select == "high" else (first_B + second_B) / 2


def pair_weight(quality_B: Tensor, threshold: float, shape: Shape, span: Span) -> Tensor:
    """Return the factor of a pair's logits: it rises to 1 at the threshold and is, or falls to, 0 above.

    Args:
        quality_B: in [0, 1].
        threshold: b in [0, 1]; 0 gives ones.
        shape: constant, a cosine's half wave or linear.
        span: ``half``: 0 above the threshold; ``whole``: falls from 1 to 0 above it (``sgn``: stays 1).

    >>> pair_weight(torch.tensor([0.0, 0.25, 0.5, 0.75]), 0.5, "linear", "whole").round(decimals=2).tolist()
    [0.0, 0.5, 1.0, 0.5]
    """
    if threshold == 0:
        return torch.ones_like(quality_B)
    b, u_B = threshold, quality_B
    above_B = torch.zeros_like(u_B)
    if shape == "sgn":
        below_B = torch.ones_like(u_B)
        above_B = below_B if span == "whole" else above_B
    elif shape == "cos":
        below_B = (1 - torch.cos(torch.pi / (b + EPS) * u_B)) / 2
        if span == "whole":
            above_B = torch.cos(torch.pi / (1 - b + EPS) / 2 * (u_B - b + (1 - b))) + 1
    else:
        below_B = u_B / (b + EPS)
        if span == "whole":
            above_B = (u_B - 1) / (b - 1 + EPS)
    return torch.where(u_B < b, below_B, above_B)


def pair_cosines(
    query_BD: Tensor, key_BD: Tensor, queue_KD: Tensor, same_BK: Tensor, *, both_ways: bool, detach_positive: bool
) -> Tensor:
    """Return cosines (R, 1 + K) of queries with their keys and the queue; if symmetric, then of keys with queries.

    Args:
        query_BD: unit length.
        key_BD: unit length.
        queue_KD: without gradient; compensated keys need not be of unit length, their products are clamped.
        same_BK: whether a cell of the queue is no negative of a pair.
        both_ways: QGFace's coupling "D2N".
        detach_positive: the other side of a positive pair gets no gradient from it.
    """
    ways = [(query_BD, key_BD), (key_BD, query_BD)] if both_ways else [(query_BD, key_BD)]
    rows = []
    for one_BD, other_BD in ways:
        positive_B = (one_BD * (other_BD.detach() if detach_positive else other_BD)).sum(dim=1)
        negative_BK = (one_BD @ queue_KD.T).masked_fill(same_BK, 0.0)
        rows.append(torch.cat([positive_B[:, None], negative_BK], dim=1))
    return torch.cat(rows).clamp(-1, 1)


@torch.no_grad()
def distance_to_hardest(cosine_RK: Tensor) -> Tensor:
    """Return the mean margin of the positive cosine over the highest other one (0 if all are below)."""
    return (cosine_RK[:, 0] - cosine_RK[:, 1:].amax(dim=1).clamp_min(0.0)).mean()


def contrast_loss(
    cosine_RK: Tensor, weight_R: Tensor, scale: float, margin: float | Tensor, *, rescale: bool
) -> Tensor:
    """Return the mean cross-entropy of the positive column.

    Args:
        cosine_RK: positive first.
        weight_R: of each row's logits.
        scale: of the logits.
        margin: taken off the positive cosine.
        rescale: divide by the loss of equal logits and multiply by that over 129 columns.
    """
    positive_R1 = cosine_RK[:, :1] - margin
    logit_RK = torch.cat([positive_R1, cosine_RK[:, 1:]], dim=1) * (scale * weight_R[:, None])
    first_R = torch.zeros(len(logit_RK), dtype=torch.long, device=logit_RK.device)
    loss = functional.cross_entropy(logit_RK, first_R)
    return loss * (REFERENCE / math.log(logit_RK.shape[1])) if rescale else loss
