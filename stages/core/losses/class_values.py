"""Sum over the other classes of a function of their cosines, in chunks of classes that backward computes once more.

For losses that are no softmax, such as UniFace's. ``margin_softmax.py`` is faster where it is one.

Shapes: B whole batch, C classes of this process, D feature dimensions, K classes of a chunk.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from stages.core.losses.class_parallel import Shard

Value = Callable[[Tensor], Tensor]
"""Maps cosine_BK to value_BK, elementwise and differentiable."""


def sum_of_others(
    embedding_BD: Tensor, weight_CD: Tensor, own_B: Tensor, value: Value, width: int, shard: Shard
) -> tuple[Tensor, Tensor]:
    """Return value_B summed over all other classes of all ranks, and the largest of their cosines without a gradient.

    Args:
        embedding_BD: unit length, of all ranks; its gradient is complete on every rank.
        weight_CD: centres of this rank's classes, of any length but 0.
        own_B: own classes as rows of ``weight_CD``; negative where another rank holds the class.
        value: what is summed.
        width: of a chunk.
        shard: this rank's part of the classes.
    """
    shared_BD = shard.shared(embedding_BD)
    sum_B = embedding_BD.new_zeros(len(embedding_BD))
    nearest_B = embedding_BD.new_full((len(embedding_BD),), -torch.inf)
    # a split and no slices: the gradient of each slice would be as large as the whole weight
    for index, weight_KD in enumerate(weight_CD.split(width)):  # type: ignore[no-untyped-call]
        added_B, near_B = checkpoint(
            _of_chunk, shared_BD, weight_KD, own_B - index * width, value,
            use_reentrant=False, preserve_rng_state=False,
        )  # fmt: skip
        sum_B, nearest_B = sum_B + added_B, torch.maximum(nearest_B, near_B)
    return shard.summed(sum_B), shard.max_(nearest_B)


def cosine_with_own(embedding_BD: Tensor, weight_CD: Tensor, own_B: Tensor, shard: Shard) -> Tensor:
    """Return cosine_B with the own class's centre, differentiable, the same on every rank."""
    shared_BD = shard.shared(embedding_BD)
    if not len(weight_CD):
        return shard.summed(shared_BD[:, 0] * 0)
    centre_BD = functional.normalize(weight_CD[own_B.clamp_min(0)], dim=1)
    cosine_B = torch.linalg.vecdot(shared_BD, centre_BD)
    return shard.summed(cosine_B.where(own_B >= 0, 0.0))


def _of_chunk(embedding_BD: Tensor, weight_KD: Tensor, own_B: Tensor, value: Value) -> tuple[Tensor, Tensor]:
    cosine_BK = embedding_BD @ functional.normalize(weight_KD, dim=1).T
    is_own_BK = own_B[:, None] == torch.arange(len(weight_KD), device=own_B.device)
    sum_B = value(cosine_BK).masked_fill(is_own_BK, 0).sum(dim=1)
    if not len(weight_KD):  # a rank without classes takes part in all exchanges
        return sum_B, torch.full_like(sum_B, -torch.inf)
    return sum_B, cosine_BK.detach().masked_fill(is_own_BK, -torch.inf).amax(dim=1)
