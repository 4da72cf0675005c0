"""Exponentials of scaled cosines with all classes, and their sums, chunk by chunk: the inner part of margin_softmax.py.

Shapes: B batch, C classes of this process, D feature dimensions, K classes of a chunk.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from stages.core.losses.class_parallel import Shard
from stages.core.losses.matmul import product
from stages.core.losses.negatives import Negatives
from stages.core.losses.own_cells import listed, masked
from stages.core.losses.tuning import CPU, Tuning

SAFE_EXPONENT = 70.0
"""exp(+-70) summed over ten million classes fits float32; beyond, each row is shifted by its maximum."""
EPS = 1e-12
UNCHANGED = Negatives()
ALONE = Shard()


@dataclass(frozen=True)
class Plan:
    """Settings of the sum over classes."""

    scale: float
    negatives: Negatives = UNCHANGED
    ramp: float = 1.0
    """Share of the change of the negatives that is in force."""
    keep: bool = True
    """Whether exponentials are kept for the backward pass ("store") or recomputed ("recompute")."""
    shard: Shard = ALONE
    factor_B: Tensor | None = None
    """Factor of each image's logits, in [0, 1]; without a gradient."""
    tuning: Tuning = CPU

    @property
    def shifts(self) -> bool:
        """Return whether the exponents need each row's maximum subtracted."""
        return self.scale * self.negatives.bound > SAFE_EXPONENT

    def width(self, size: int, dim: int) -> int:
        """Return the number of classes per chunk."""
        return max(64, self.tuning.chunk_numbers // (size + dim) // 64 * 64)

    def spans(self, size: int, num_classes: int, dim: int) -> list[tuple[int, int]]:
        """Return the chunks."""
        width = self.width(size, dim)
        return [(begin, min(begin + width, num_classes)) for begin in range(0, num_classes, width)]


class Chunks:
    """Exponentials chunk by chunk, identical in the forward and the backward pass."""

    def __init__(self, embedding_BD: Tensor, weight_CD: Tensor, label_B: Tensor, plan: Plan) -> None:
        self.embedding_BD, self.weight_CD, self.plan = embedding_BD, weight_CD, plan
        self.spans = plan.spans(len(embedding_BD), *weight_CD.shape)
        self.owned = (listed if plan.tuning.asks else masked)(label_B, self.spans)
        self.size = len(embedding_BD)

    def inverse_norms(self) -> Tensor:
        """Return memory for the inverse length of each centre, filled where that is faster at once than by chunk."""
        weight_CD = self.weight_CD
        return inverse_norms(weight_CD) if self.plan.tuning.in_place else weight_CD.new_empty(len(weight_CD))

    def room(self, *, keep: bool) -> Tensor:
        """Return memory for one chunk's exponentials, or for those of all."""
        num_classes, dim = self.weight_CD.shape
        widest = self.spans[0][1] if self.spans else 0
        return self.weight_CD.new_empty(num_classes * max(self.size, dim) if keep else widest * self.size)

    def slot(self, room: Tensor, index: int, *, keep: bool) -> Tensor:
        """Return a chunk's part of ``room``.

        Where all are kept, a chunk lies where its rows of the weight's gradient will be written, or behind: written
        in order, they never reach a chunk that is still to be read.
        """
        begin, end = self.spans[index]
        at = begin * max(self.size, self.weight_CD.shape[1]) if keep else 0
        return room[at : at + (end - begin) * self.size].view(self.size, end - begin)

    def cosines(self, index: int, inverse_K: Tensor, logit_BK: Tensor) -> Tensor:
        """Write scale x cosine to ``logit_BK``, -inf for true classes; return each row's largest cosine."""
        begin, end = self.spans[index]
        weight_KD, factor_K = self.weight_CD[begin:end], inverse_K * self.plan.scale
        if self.plan.tuning.in_place:
            torch.mm(self.embedding_BD, weight_KD.T, out=logit_BK).mul_(factor_K)
        else:
            torch.mul(product(self.embedding_BD, weight_KD), factor_K, out=logit_BK)
        self.owned[index].fill_(logit_BK, -math.inf)
        return logit_BK.amax(dim=1).div_(self.plan.scale)

    def bend(self, index: int, nearest_B: Tensor, logit_BK: Tensor) -> Tensor | None:
        """Apply the head's rule to the negatives; return its slope, None if nothing changed."""
        plan, own = self.plan, self.owned[index]
        low, high = plan.negatives.unchanged
        if not plan.ramp or (low == -math.inf and high == math.inf):
            return None
        asks = plan.tuning.asks
        if asks:  # else a rule may make NaN of -inf, which is overwritten below
            own.fill_(logit_BK, 0)
            if low < high and nearest_B.max() <= high and logit_BK.amin() >= low * plan.scale:
                own.fill_(logit_BK, -math.inf)
                return None
        if plan.ramp == 1:
            slope_BK = plan.negatives.bend_(logit_BK, plan.scale, asks=asks)
        else:
            plain_BK = logit_BK.clone()
            slope_BK = plan.negatives.bend_(logit_BK, plan.scale, asks=asks).to(logit_BK.dtype)
            torch.lerp(plain_BK, logit_BK, plan.ramp, out=logit_BK)
            slope_BK.mul_(plan.ramp).add_(1 - plan.ramp)
        own.fill_(logit_BK, -math.inf)
        return slope_BK

    def exponentials(self, index: int, inverse_K: Tensor, out_BK: Tensor, shift_B: Tensor | None) -> Part:
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
            self.owned[index].fill_(out_BK, 0)  # 0 x -inf would be NaN
            out_BK.mul_(self.plan.factor_B[:, None])
            self.owned[index].fill_(out_BK, -math.inf)
        if shift_B is not None:
            shift_B = torch.maximum(shift_B, out_BK.amax(dim=1))
            out_BK.sub_(shift_B[:, None])
        sum_B = out_BK.exp_().sum(dim=1)
        if slope_BK is not None:
            out_BK.mul_(slope_BK)
        out_BK.mul_(inverse_K)
        return Part(nearest_B, sum_B, shift_B)


class Part(NamedTuple):
    """The contribution of one chunk."""

    nearest_B: Tensor
    sum_B: Tensor
    shift_B: Tensor | None


class Totals:
    """Sums over the chunks in the forward pass, and then over the ranks."""

    def __init__(self, chunks: Chunks, *, wants_pull: bool) -> None:
        plan, embedding_BD = chunks.plan, chunks.embedding_BD
        self.plan = plan
        self.sum_B = embedding_BD.new_zeros(chunks.size)
        self.nearest_B = embedding_BD.new_full((chunks.size,), -math.inf)
        self.pull_BD = torch.zeros_like(embedding_BD) if wants_pull else None
        """Sum of exp x centre: the feature's gradient, up to a factor per image."""
        # below every logit, yet finite: -inf - -inf would be NaN
        floor = -plan.scale * plan.negatives.bound
        self.shift_B = embedding_BD.new_full((chunks.size,), floor) if plan.shifts else None
        self.shifts: list[Tensor | None] = []

    def add(self, part: Part, grown_BK: Tensor, weight_KD: Tensor) -> None:
        """Add one chunk."""
        if self.shift_B is not None and part.shift_B is not None:
            self.shrink((self.shift_B - part.shift_B).exp_())
        self.shift_B = part.shift_B
        self.shifts.append(part.shift_B)
        self.sum_B.add_(part.sum_B)
        self.nearest_B = torch.maximum(self.nearest_B, part.nearest_B)
        if self.pull_BD is None:
            return
        if self.plan.tuning.in_place:
            self.pull_BD.addmm_(grown_BK, weight_KD)
        else:
            self.pull_BD.add_(product(grown_BK, weight_KD.T))

    def shrink(self, factor_B: Tensor) -> None:
        """Rescale the sums so far to a higher shift."""
        self.sum_B.mul_(factor_B)
        if self.pull_BD is not None:
            self.pull_BD.mul_(factor_B[:, None])

    def over_ranks(self) -> None:
        """Bring all ranks to the same shift, then sum; the pull stays local to each rank."""
        shard = self.plan.shard
        if self.shift_B is not None:
            top_B = shard.max_(self.shift_B.clone())
            self.shrink((self.shift_B - top_B).exp_())
            self.shift_B = top_B
        shard.sum_(self.sum_B)
        shard.max_(self.nearest_B)

    def log_sum(self) -> Tensor:
        """Return the log of the sum, with the shift undone."""
        return self.sum_B.log() if self.shift_B is None else self.sum_B.log() + self.shift_B

    def behind(self, index: int) -> Tensor | None:
        """Return the factor that brings a chunk's exponentials to the last shift."""
        shift_B = self.shifts[index]
        return None if shift_B is None or self.shift_B is None else (shift_B - self.shift_B).exp_()


def inverse_norms(weight_KD: Tensor) -> Tensor:
    """Return the inverse length of each centre; a centre of length 0 counts as EPS long."""
    norm_K: Tensor = torch.linalg.vector_norm(weight_KD, dim=1)
    return norm_K.clamp_min_(EPS).reciprocal_()
