"""Log of the sum over negatives of a margin softmax, the only part of size batch x classes, in chunks of classes.

A head moves only the true class's logit z. So with S the sum of exp(logit) over the *other* classes, the loss is
log(1 + S e^-z): everything but log S concerns one number per image and is left to autograd. Here are log S, its
gradients, and the target's cosine, in chunks of classes that stay in the cache:

- forward: cosines, their exponentials, sums, and the feature's gradient not yet divided by S (as FlashAttention's
  output, Dao et al. 2022): two products;
- backward: the weight's gradient from the exponentials, its part along the centre taken off chunk by chunk: one
  product. The exponentials wait in the memory that the gradient will take ("store"), or are made again
  ("recompute": a fourth product, nothing kept).

1 - p of the true class comes out as sigmoid(log S - z): no cancellation where training has converged.

Shapes: B batch, C classes of this process, D feature dimensions, K classes of a chunk.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from stages.core.losses.class_parallel import Shard
from stages.core.losses.margin_softmax_chunks import Chunks, Plan, Totals, inverse_norms
from stages.core.losses.matmul import product


class Sums(NamedTuple):
    """The values that a head needs from all classes."""

    cosine_B: Tensor
    """Cosine of each feature with its own class's centre."""
    log_sum_B: Tensor
    """Log of the sum of exp(logit) over all other classes."""
    nearest_B: Tensor
    """Largest cosine with another class's centre; without a gradient."""


def log_sum(embedding_BD: Tensor, weight_CD: Tensor, label_B: Tensor, cosine_B: Tensor, plan: Plan) -> Sums:
    """Return the sums over all classes of all ranks, the same on every rank.

    Gradients flow to ``embedding_BD`` (whole, on every rank) and to ``weight_CD``; once, and not twice over.

    Args:
        embedding_BD: unit length, float32 or float64.
        weight_CD: centres of this rank's classes, of any length but 0.
        label_B: own classes as rows of ``weight_CD``; negative where another rank holds the class.
        cosine_B: what ``target_cosine`` returned.
        plan: how.
    """
    if not torch.is_grad_enabled():  # a Function is told of gradients even where none are taken
        embedding_BD, weight_CD = embedding_BD.detach(), weight_CD.detach()
    return Sums(*_LogSum.apply(embedding_BD, weight_CD, label_B, cosine_B, plan))  # type: ignore[no-untyped-call]


@torch.no_grad()
def target_cosine(embedding_BD: Tensor, weight_CD: Tensor, label_B: Tensor, shard: Shard) -> Tensor:
    """Return the cosine of each feature with its own class's centre, on whichever rank that is."""
    cosine_B = torch.linalg.vecdot(embedding_BD, _own_centres(weight_CD, label_B))
    return shard.sum_(cosine_B)


def _own_centres(weight_CD: Tensor, label_B: Tensor) -> Tensor:
    """Return each image's centre at unit length; zeros if another rank holds it."""
    if not len(weight_CD):
        return weight_CD.new_zeros(len(label_B), weight_CD.shape[1])
    own_BD = weight_CD[label_B.clamp_min(0)]
    return own_BD * (inverse_norms(own_BD) * (label_B >= 0))[:, None]


class _LogSum(torch.autograd.Function):
    """Autograd function of ``log_sum``; see the top of the file."""

    @staticmethod
    def forward(
        ctx: Any, embedding_BD: Tensor, weight_CD: Tensor, label_B: Tensor, cosine_B: Tensor, plan: Plan
    ) -> tuple[Tensor, Tensor, Tensor]:
        chunks = Chunks(embedding_BD, weight_CD, label_B, plan)
        totals = Totals(chunks, wants_pull=ctx.needs_input_grad[0])
        keep = plan.keep and ctx.needs_input_grad[1]
        room = chunks.room(keep=keep)
        inverse_C = chunks.inverse_norms()
        for index, (begin, end) in enumerate(chunks.spans):
            inverse_K = inverse_C[begin:end]
            if not plan.tuning.in_place:
                inverse_K.copy_(inverse_norms(weight_CD[begin:end]))
            grown_BK = chunks.slot(room, index, keep=keep)
            part = chunks.exponentials(index, inverse_K, grown_BK, totals.shift_B)
            totals.add(part, grown_BK, weight_CD[begin:end])
        totals.over_ranks()
        # torch then notices a weight that was changed before backward
        ctx.save_for_backward(embedding_BD, weight_CD, label_B)
        ctx.chunks, ctx.totals, ctx.inverse_C = chunks, totals, inverse_C
        ctx.room = room if keep else None
        ctx.mark_non_differentiable(totals.nearest_B)
        return cosine_B.clone(), totals.log_sum(), totals.nearest_B

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        _, weight_CD, label_B = ctx.saved_tensors
        chunks: Chunks = ctx.chunks
        totals: Totals = ctx.totals
        grad_cosine_B, grad_log_B, _ = grads
        if chunks.plan.factor_B is not None:
            grad_log_B = grad_log_B * chunks.plan.factor_B
        # a sum of 0 is one class alone: nothing pulls
        factor_B = grad_log_B * chunks.plan.scale / totals.sum_B.clamp_min(torch.finfo(totals.sum_B.dtype).tiny)
        grad_embedding_BD = None
        if totals.pull_BD is not None:
            grad_embedding_BD = totals.pull_BD * factor_B[:, None]
            grad_embedding_BD.addcmul_(_own_centres(weight_CD, label_B), grad_cosine_B[:, None])
            chunks.plan.shard.sum_(grad_embedding_BD)
        grad_weight_CD = None
        if ctx.needs_input_grad[1]:
            # handed over: a second backward makes the exponentials again
            room, ctx.room = ctx.room, None
            grad_weight_CD = _weight_gradient(chunks, totals, ctx.inverse_C, grad_cosine_B, factor_B, room)
        return grad_embedding_BD, grad_weight_CD, None, None, None


def _weight_gradient(
    chunks: Chunks, totals: Totals, inverse_C: Tensor, grad_cosine_B: Tensor, factor_B: Tensor, room: Tensor | None
) -> Tensor:
    """Return grad_CD; it overwrites ``room`` if exponentials were kept there."""
    weight_CD, embedding_BD = chunks.weight_CD, chunks.embedding_BD
    scratch = chunks.room(keep=False) if room is None else room
    pulled_BD = embedding_BD * factor_B[:, None]
    grad_CD = torch.empty_like(weight_CD) if room is None else room[: weight_CD.numel()].view_as(weight_CD)
    for index, (begin, end) in enumerate(chunks.spans):
        weight_KD, inverse_K, grad_KD = weight_CD[begin:end], inverse_C[begin:end], grad_CD[begin:end]
        if room is None:
            grown_BK = chunks.slot(scratch, index, keep=False)
            chunks.exponentials(index, inverse_K, grown_BK, totals.shifts[index])
        else:
            grown_BK = chunks.slot(room, index, keep=True)
        behind_B = totals.behind(index)
        right_BD = pulled_BD if behind_B is None else pulled_BD * behind_B[:, None]
        pull_KD = product(grown_BK.T, right_BD.T)
        chunks.owned[index].add_(pull_KD, embedding_BD, grad_cosine_B, inverse_K)
        # a cosine does not change along its centre
        along_K = torch.linalg.vecdot(pull_KD, weight_KD) * inverse_K.square()
        torch.addcmul(pull_KD, weight_KD, along_K[:, None], value=-1, out=grad_KD)
    return grad_CD
