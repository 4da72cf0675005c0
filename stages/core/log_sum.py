"""The part of a margin softmax that is as large as batch x classes, at the cost of its matrix products.

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

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from stages.core.negatives import Negatives
from stages.core.products import product
from stages.core.shard import Shard

CHUNK_NUMBERS = 1 << 20
"""Numbers in a chunk's exponentials and weights together; tuned on CPUs (benchmarks/bench_heads.py)."""
SAFE_EXPONENT = 70.0
"""exp(+-70) summed over ten million classes stays a float32; beyond, each row is shifted by its maximum."""
EPS = 1e-12
UNCHANGED = Negatives()
ALONE = Shard()


@dataclass(frozen=True)
class Plan:
    """How the sum is taken."""

    scale: float
    negatives: Negatives = UNCHANGED
    ramp: float = 1.0
    """Share of the negatives' change in force."""
    keep: bool = True
    """Whether exponentials are kept for backward ("store"), or made again ("recompute")."""
    shard: Shard = ALONE
    factor_B: Tensor | None = None
    """What each image's logits are multiplied by, in [0, 1]; without a gradient."""

    @property
    def shifts(self) -> bool:
        """Whether exponents need each row's maximum taken off."""
        return self.scale * self.negatives.bound > SAFE_EXPONENT

    def width(self, size: int, dim: int) -> int:
        """Return how many classes make up a chunk."""
        return max(64, CHUNK_NUMBERS // (size + dim) // 64 * 64)

    def spans(self, size: int, num_classes: int, dim: int) -> list[tuple[int, int]]:
        """Return the chunks."""
        width = self.width(size, dim)
        return [(begin, min(begin + width, num_classes)) for begin in range(0, num_classes, width)]


class Sums(NamedTuple):
    """What a head needs of all classes."""

    cosine_B: Tensor
    """Of each feature with its own class's centre."""
    log_sum_B: Tensor
    """Log of the sum of exp(logit) over all other classes."""
    nearest_B: Tensor
    """Largest cosine with another class's centre; without a gradient."""


def log_sum(embedding_BD: Tensor, weight_CD: Tensor, label_B: Tensor, cosine_B: Tensor, plan: Plan) -> Sums:
    """Return the sums over all classes of all ranks, equal on all of them.

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
    """Return the cosine of each feature with its own class's centre, whichever rank holds that."""
    cosine_B = torch.linalg.vecdot(embedding_BD, _own_centres(weight_CD, label_B))
    return shard.sum_(cosine_B)


def _own_centres(weight_CD: Tensor, label_B: Tensor) -> Tensor:
    """Return each image's centre at unit length; zeros where another rank holds it."""
    if not len(weight_CD):
        return weight_CD.new_zeros(len(label_B), weight_CD.shape[1])
    own_BD = weight_CD[label_B.clamp_min(0)]
    return own_BD * (_inverse_norms(own_BD) * (label_B >= 0))[:, None]


def _inverse_norms(weight_KD: Tensor) -> Tensor:
    norm_K: Tensor = torch.linalg.vector_norm(weight_KD, dim=1)
    return norm_K.clamp_min_(EPS).reciprocal_()


class _Owned(NamedTuple):
    """Cells of a chunk that belong to a true class."""

    row: Tensor
    column: Tensor


def _owned(label_B: Tensor, spans: Sequence[tuple[int, int]]) -> list[_Owned]:
    """Return the true classes' cells of each chunk."""
    sorted_B, order_B = label_B.sort(stable=True)
    ends = [*(begin for begin, _ in spans), spans[-1][1] if spans else 0]
    cuts = torch.searchsorted(sorted_B, torch.tensor(ends, device=label_B.device)).tolist()
    return [
        _Owned(order_B[low:high], sorted_B[low:high] - begin)
        for (begin, _), low, high in zip(spans, cuts, cuts[1:], strict=False)
    ]


class _Chunks:
    """Exponentials chunk by chunk, the same ones in forward and in backward."""

    def __init__(self, embedding_BD: Tensor, weight_CD: Tensor, label_B: Tensor, plan: Plan) -> None:
        self.embedding_BD, self.weight_CD, self.plan = embedding_BD, weight_CD, plan
        self.spans = plan.spans(len(embedding_BD), *weight_CD.shape)
        self.owned = _owned(label_B, self.spans)
        self.size = len(embedding_BD)

    def room(self, *, keep: bool) -> Tensor:
        """Return memory for one chunk's exponentials, or for those of all."""
        num_classes, dim = self.weight_CD.shape
        widest = self.spans[0][1] if self.spans else 0
        return self.weight_CD.new_empty(num_classes * max(self.size, dim) if keep else widest * self.size)

    def slot(self, room: Tensor, index: int, *, keep: bool) -> Tensor:
        """Return where in ``room`` a chunk lies.

        Where all are kept, a chunk lies where its rows of the weight's gradient will be written, or behind: written
        in order, they never reach a chunk that is still to be read.
        """
        begin, end = self.spans[index]
        at = begin * max(self.size, self.weight_CD.shape[1]) if keep else 0
        return room[at : at + (end - begin) * self.size].view(self.size, end - begin)

    def cosines(self, index: int, inverse_K: Tensor, logit_BK: Tensor) -> Tensor:
        """Write scale x cosine to ``logit_BK``, -inf for true classes; return each row's largest cosine."""
        begin, end = self.spans[index]
        torch.mul(product(self.embedding_BD, self.weight_CD[begin:end]), inverse_K * self.plan.scale, out=logit_BK)
        logit_BK[self.owned[index]] = -math.inf
        return logit_BK.amax(dim=1).div_(self.plan.scale)

    def bend(self, index: int, nearest_B: Tensor, logit_BK: Tensor) -> Tensor | None:
        """Change the negatives as the head says; return the slope, None where nothing changed."""
        plan, own = self.plan, self.owned[index]
        low, high = plan.negatives.unchanged
        if not plan.ramp or (low == -math.inf and high == math.inf):
            return None
        logit_BK[own] = 0
        if low < high and nearest_B.max() <= high and logit_BK.amin() >= low * plan.scale:
            logit_BK[own] = -math.inf
            return None
        if plan.ramp == 1:
            slope_BK = plan.negatives.bend_(logit_BK, plan.scale)
        else:
            plain_BK = logit_BK.clone()
            slope_BK = plan.negatives.bend_(logit_BK, plan.scale)
            torch.lerp(plain_BK, logit_BK, plan.ramp, out=logit_BK)
            slope_BK.mul_(plan.ramp).add_(1 - plan.ramp)
        logit_BK[own] = -math.inf
        return slope_BK

    def exponentials(self, index: int, inverse_K: Tensor, out_BK: Tensor, shift_B: Tensor | None) -> _Part:
        """Write exp(logit) times the negatives' slope and each centre's inverse norm to ``out_BK``.

        Args:
            index: of the chunk.
            inverse_K: inverse norms of its centres.
            out_BK: memory for it.
            shift_B: taken off the exponents, after it was raised to each row's maximum.
        """
        nearest_B = self.cosines(index, inverse_K, out_BK)
        slope_BK = self.bend(index, nearest_B, out_BK)
        if self.plan.factor_B is not None:
            out_BK[self.owned[index]] = 0  # 0 x -inf would be NaN
            out_BK.mul_(self.plan.factor_B[:, None])
            out_BK[self.owned[index]] = -math.inf
        if shift_B is not None:
            shift_B = torch.maximum(shift_B, out_BK.amax(dim=1))
            out_BK.sub_(shift_B[:, None])
        sum_B = out_BK.exp_().sum(dim=1)
        if slope_BK is not None:
            out_BK.mul_(slope_BK)
        out_BK.mul_(inverse_K)
        return _Part(nearest_B, sum_B, shift_B)


class _Part(NamedTuple):
    nearest_B: Tensor
    sum_B: Tensor
    shift_B: Tensor | None


class _Totals:
    """What forward adds up over the chunks, and then over the ranks."""

    def __init__(self, chunks: _Chunks, *, wants_pull: bool) -> None:
        plan, embedding_BD = chunks.plan, chunks.embedding_BD
        self.plan = plan
        self.sum_B = embedding_BD.new_zeros(chunks.size)
        self.nearest_B = embedding_BD.new_full((chunks.size,), -math.inf)
        self.pull_BD = torch.zeros_like(embedding_BD) if wants_pull else None
        """Sum of exp x centre: the feature's gradient, but for a factor per image."""
        # below every logit, yet finite: -inf - -inf would be NaN
        floor = -plan.scale * plan.negatives.bound
        self.shift_B = embedding_BD.new_full((chunks.size,), floor) if plan.shifts else None
        self.shifts: list[Tensor | None] = []

    def add(self, part: _Part, grown_BK: Tensor, weight_KD: Tensor) -> None:
        """Take in one chunk."""
        if self.shift_B is not None and part.shift_B is not None:
            self.shrink((self.shift_B - part.shift_B).exp_())
        self.shift_B = part.shift_B
        self.shifts.append(part.shift_B)
        self.sum_B.add_(part.sum_B)
        self.nearest_B = torch.maximum(self.nearest_B, part.nearest_B)
        if self.pull_BD is not None:
            self.pull_BD.add_(product(grown_BK, weight_KD.T))

    def shrink(self, factor_B: Tensor) -> None:
        """Bring what was summed so far to a higher shift."""
        self.sum_B.mul_(factor_B)
        if self.pull_BD is not None:
            self.pull_BD.mul_(factor_B[:, None])

    def over_ranks(self) -> None:
        """Bring all ranks to one shift, then sum; the pull stays each rank's own."""
        shard = self.plan.shard
        if self.shift_B is not None:
            top_B = shard.max_(self.shift_B.clone())
            self.shrink((self.shift_B - top_B).exp_())
            self.shift_B = top_B
        shard.sum_(self.sum_B)
        shard.max_(self.nearest_B)

    def log_sum(self) -> Tensor:
        """Return the log of the sum, unshifted."""
        return self.sum_B.log() if self.shift_B is None else self.sum_B.log() + self.shift_B

    def behind(self, index: int) -> Tensor | None:
        """Return the factor that brings a chunk's exponentials to the last shift."""
        shift_B = self.shifts[index]
        return None if shift_B is None or self.shift_B is None else (shift_B - self.shift_B).exp_()


class _LogSum(torch.autograd.Function):
    """See the top of the file."""

    @staticmethod
    def forward(
        ctx: Any, embedding_BD: Tensor, weight_CD: Tensor, label_B: Tensor, cosine_B: Tensor, plan: Plan
    ) -> tuple[Tensor, Tensor, Tensor]:
        chunks = _Chunks(embedding_BD, weight_CD, label_B, plan)
        totals = _Totals(chunks, wants_pull=ctx.needs_input_grad[0])
        keep = plan.keep and ctx.needs_input_grad[1]
        room = chunks.room(keep=keep)
        inverse_C = weight_CD.new_empty(len(weight_CD))
        for index, (begin, end) in enumerate(chunks.spans):
            inverse_K = inverse_C[begin:end].copy_(_inverse_norms(weight_CD[begin:end]))
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
        chunks: _Chunks = ctx.chunks
        totals: _Totals = ctx.totals
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
    chunks: _Chunks, totals: _Totals, inverse_C: Tensor, grad_cosine_B: Tensor, factor_B: Tensor, room: Tensor | None
) -> Tensor:
    """Return grad_CD; written over ``room`` where exponentials were kept there."""
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
        own = chunks.owned[index]
        own_pull_B = grad_cosine_B[own.row] * inverse_K[own.column]
        pull_KD.index_add_(0, own.column, embedding_BD[own.row] * own_pull_B[:, None])
        # a cosine does not change along its centre
        along_K = torch.linalg.vecdot(pull_KD, weight_KD) * inverse_K.square()
        torch.addcmul(pull_KD, weight_KD, along_K[:, None], value=-1, out=grad_KD)
    return grad_CD
