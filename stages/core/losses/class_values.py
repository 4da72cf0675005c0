"""Sums over the other classes: of a function of their cosines, or of their exponentials, in chunks of classes.

Backward computes each chunk once more. For losses that are no softmax, such as UniFace's, and for classes with several
centres; ``margin_softmax.py`` is faster for a softmax over classes with one centre.

A row of the weight is the centre of a class, or several one after another; then the nearest of them counts.

Shapes: B whole batch, C classes of this process, D feature dimensions, K classes of a chunk, X = D or a multiple of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from stages.core.losses.class_parallel import Shard

Value = Callable[[Tensor], Tensor]
"""Maps cosine_BK to value_BK, elementwise and differentiable."""


def sum_of_others(
    embedding_BD: Tensor, weight_CX: Tensor, own_B: Tensor, value: Value, width: int, shard: Shard
) -> tuple[Tensor, Tensor]:
    """Return value_B summed over all other classes of all ranks, and the largest of their cosines without a gradient.

    Args:
        embedding_BD: unit length, of all ranks; its gradient is complete on every rank.
        weight_CX: centres of this rank's classes, of any length but 0.
        own_B: own classes as rows of ``weight_CX``; negative where another rank holds the class.
        value: what is summed.
        width: of a chunk.
        shard: this rank's part of the classes.
    """
    shared_BD = shard.shared(embedding_BD)
    sum_B = embedding_BD.new_zeros(len(embedding_BD))
    nearest_B = embedding_BD.new_full((len(embedding_BD),), -torch.inf)
    for added_B, near_B in _chunks(_of_chunk, shared_BD, weight_CX, own_B, value, width):
        sum_B, nearest_B = sum_B + added_B, torch.maximum(nearest_B, near_B)
    return shard.summed(sum_B), shard.max_(nearest_B)


def log_sum_of_others(
    embedding_BD: Tensor, weight_CX: Tensor, own_B: Tensor, scale_B: Tensor, width: int, shard: Shard
) -> tuple[Tensor, Tensor]:
    """Return the log of the sum of exp(scale x cosine) over all other classes, and the largest of their cosines.

    Args:
        embedding_BD: as in ``sum_of_others``, as the others.
        weight_CX: centres.
        own_B: own classes.
        scale_B: of each image's logits.
        width: of a chunk.
        shard: this rank's part of the classes.
    """
    shared_BD = shard.shared(embedding_BD)
    parts, nearest_B = [], embedding_BD.new_full((len(embedding_BD),), -torch.inf)
    for part_B, near_B in _chunks(_log_of_chunk, shared_BD, weight_CX, own_B, scale_B, width):
        parts.append(part_B)
        nearest_B = torch.maximum(nearest_B, near_B)
    part_NB = torch.stack(parts)
    highest_B = shard.max_(part_NB.detach().amax(dim=0))
    sum_B = shard.summed((part_NB - highest_B).exp().sum(dim=0))
    return sum_B.log() + highest_B, shard.max_(nearest_B)


def cosine_with_own(embedding_BD: Tensor, weight_CX: Tensor, own_B: Tensor, shard: Shard) -> Tensor:
    """Return cosine_B with the own class's centre, differentiable, the same on every rank."""
    shared_BD = shard.shared(embedding_BD)
    if not len(weight_CX):
        return shard.summed(shared_BD[:, 0] * 0)
    own_BX = weight_CX[own_B.clamp_min(0)]
    if own_BX.shape[1] == shared_BD.shape[1]:
        cosine_B = torch.linalg.vecdot(shared_BD, functional.normalize(own_BX, dim=1))
    else:
        own_BND = functional.normalize(own_BX.view(len(own_BX), -1, shared_BD.shape[1]), dim=2)
        cosine_B = torch.linalg.vecdot(shared_BD[:, None], own_BND).max(dim=1).values
    return shard.summed(cosine_B.where(own_B >= 0, 0.0))


def cosines_with_each(embedding_BD: Tensor, weight_KX: Tensor) -> Tensor:
    """Return cosine_BK with each class's centre, or the nearest of its centres; differentiable."""
    dim = embedding_BD.shape[1]
    if weight_KX.shape[1] == dim:
        return embedding_BD @ functional.normalize(weight_KX, dim=1).T
    cosine_BY = embedding_BD @ functional.normalize(weight_KX.reshape(-1, dim), dim=1).T
    nearest_BK: Tensor = cosine_BY.view(len(embedding_BD), len(weight_KX), -1).max(dim=2).values
    return nearest_BK


def _chunks(
    of_chunk: Callable[..., tuple[Tensor, Tensor]],
    embedding_BD: Tensor,
    weight_CX: Tensor,
    own_B: Tensor,
    argument: Value | Tensor,
    width: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield what ``of_chunk`` returns of each chunk of classes; backward calls it again."""
    # a split and no slices: the gradient of each slice would be as large as the whole weight
    for index, weight_KX in enumerate(weight_CX.split(width)):  # type: ignore[no-untyped-call]
        found: tuple[Tensor, Tensor] = checkpoint(
            of_chunk, embedding_BD, weight_KX, own_B - index * width, argument,
            use_reentrant=False, preserve_rng_state=False,
        )  # fmt: skip
        yield found


def _log_of_chunk(
    embedding_BD: Tensor, weight_KX: Tensor, own_B: Tensor, scale_B: Tensor
) -> tuple[Tensor, Tensor]:
    # no infinity: where all is left out, its gradient would be none
    low = torch.finfo(scale_B.dtype).min / 4
    if not len(weight_KX):  # a rank without classes takes part in all exchanges
        return embedding_BD[:, 0] * 0 + low, torch.full_like(scale_B, -torch.inf)
    cosine_BK = cosines_with_each(embedding_BD, weight_KX)
    is_own_BK = own_B[:, None] == torch.arange(len(weight_KX), device=own_B.device)
    log_B = (scale_B[:, None] * cosine_BK).masked_fill(is_own_BK, low).logsumexp(dim=1)
    return log_B, cosine_BK.detach().masked_fill(is_own_BK, -torch.inf).amax(dim=1)


def _of_chunk(embedding_BD: Tensor, weight_KX: Tensor, own_B: Tensor, value: Value) -> tuple[Tensor, Tensor]:
    cosine_BK = cosines_with_each(embedding_BD, weight_KX)
    is_own_BK = own_B[:, None] == torch.arange(len(weight_KX), device=own_B.device)
    sum_B = value(cosine_BK).masked_fill(is_own_BK, 0).sum(dim=1)
    if not len(weight_KX):  # a rank without classes takes part in all exchanges
        return sum_B, torch.full_like(sum_B, -torch.inf)
    return sum_B, cosine_BK.detach().masked_fill(is_own_BK, -torch.inf).amax(dim=1)
