"""Base of heads whose margin changes the true class's logit, with an elementwise rule for the others.

Such a head defines two things, ``moved`` and ``negatives``; the loss then comes from
``stages/core/losses/margin_softmax.py`` at the cost of its matrix products, on one process or
on many that each hold a part of the classes.

Shapes: B batch, C classes (of this process), D feature dimensions.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from stages.core import autocast
from stages.core.errors import InputError
from stages.core.losses import tuning
from stages.core.losses.class_parallel import Shard
from stages.core.losses.head import CosineHead, HeadOutput, directions, others, pick, put
from stages.core.losses.margin_softmax import Sums, log_sum, target_cosine
from stages.core.losses.margin_softmax_chunks import Plan
from stages.core.losses.negatives import Negatives
from stages.core.losses.tuning import Tuning


@dataclass(frozen=True)
class Target:
    """Inputs of a head for moving the true class's cosine, per image."""

    cosine_B: Tensor
    """Cosine with the own class's centre; in [-1, 1] up to rounding."""
    norm_B: Tensor
    """Norm of the feature, with its gradient."""
    probability_B: Tensor
    """Softmax probability of the true class without its margin; without a gradient."""
    quality_B: Tensor | None
    """Quality of each image; None if it is not given."""


class MarginHead(CosineHead):
    """A margin on the true class, and a rule for the others."""

    shardable = True

    mode: Literal["auto", "store", "recompute"] = "auto"
    """store: exponentials wait for backward in the memory of the weight's gradient, three matrix products;
    recompute: they are made again, four products; auto: store where it costs no memory (batch <= feature
    dimension) or little (``Tuning.store_bytes``), else recompute."""
    tuned: Tuning | None = None
    """Sizes and ways; None: those of the weight's device."""

    row_K: Tensor | None = None
    """Rows of the centres that take part in the last step: unique and ascending; None: all."""

    def __init__(self, feature_dim: int, num_classes: int, scale: float, shard: Shard | None = None) -> None:
        super().__init__(feature_dim, num_classes, scale, shard)
        if self.shard.sample_rate < 1:
            self.weight.register_post_accumulate_grad_hook(self._mark_coalesced)  # type: ignore[no-untyped-call]

    @abstractmethod
    def moved(self, target: Target) -> Tensor:
        """Return the true class's cosine with the margin, differentiable; may update running statistics."""

    def negatives(self, cosine_B: Tensor) -> Negatives:
        """Return the rule for the other classes' cosines; may update running statistics.

        Args:
            cosine_B: with the own class's centre, without a gradient.
        """
        return Negatives()

    def with_margin(
        self, cosine_BC: Tensor, norm_B: Tensor, label_B: Tensor, quality_B: Tensor | None = None
    ) -> Tensor:
        """Return all cosines with the margin applied at once: for tests, and for losses that need logits."""
        cosine_B = pick(cosine_BC, label_B)
        value_BC = self.negatives(cosine_B.detach()).value(cosine_BC)
        with torch.no_grad():
            log_sum_B = (self.scale * others(value_BC, label_B)).logsumexp(dim=1)
            probability_B = torch.sigmoid(self.scale * cosine_B - log_sum_B)
        return put(value_BC, self.moved(Target(cosine_B, norm_B, probability_B, quality_B)), label_B)

    def logits(self, feature_BD: Tensor, label_B: Tensor, quality_B: Tensor | None = None) -> Tensor:
        """Return logits_BC with the margin; every call updates running statistics, as in published code."""
        cosine_BC, norm_B = self.cosines(feature_BD)
        moved_BC = self.with_margin(cosine_BC, norm_B, label_B, quality_B)
        return self.scale * (moved_BC if self.ramp == 1 else torch.lerp(cosine_BC, moved_BC, self.ramp))

    def cosines(self, feature_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosine_BC of every feature with every class centre, and norm_B of the features.

        Raises:
            ValueError: this process holds only some of the classes.
        """
        if self.shard.world_size > 1:
            raise InputError("this head holds one shard of the classes and cannot return all cosines: use `forward`")
        return super().cosines(feature_BD)

    def forward(
        self, feature_BD: Tensor, label_B: Tensor, quality_B: Tensor | None = None, factor_B: Tensor | None = None
    ) -> HeadOutput:
        """Return the loss of a batch, and values to log (see ``HeadOutput`` for shards).

        Args:
            feature_BD: un-normalised, of this rank's images; half precision is raised to single.
            label_B: int64, of all ranks' classes.
            quality_B: of each image, higher is better; for heads with ``wants_quality``.
            factor_B: in [0, 1], what each image's logits are multiplied by (QGFace), without a gradient.

        Raises:
            ValueError: a label is not in [0, C) (not checked on a GPU), or ``quality_B`` is missing or of another
                number of images.
        """
        known_B = self.quality(quality_B, len(label_B))
        with autocast.off(feature_BD.device):
            whole_BD = self.shard.gather_features(feature_BD.to(self.weight.dtype))
            whole_label_B = self.shard.gather(label_B)
            whole_quality_B = None if known_B is None else self.shard.gather(known_B)
            whole_factor_B = None if factor_B is None else self.shard.gather(factor_B.detach().to(whole_BD.dtype))
            embedding_BD, norm_B = directions(whole_BD)
            sums = self.sums(embedding_BD, whole_label_B, whole_factor_B)
            scale = self.scale if whole_factor_B is None else self.scale * whole_factor_B
            cosine_B, nearest_B = sums.cosine_B.detach(), sums.nearest_B
            probability_B = torch.sigmoid(scale * cosine_B - sums.log_sum_B.detach())
            moved_B = self.moved(Target(sums.cosine_B, norm_B, probability_B, whole_quality_B))
            moved_B = moved_B if self.ramp == 1 else torch.lerp(sums.cosine_B, moved_B, self.ramp)
            # log(1 + exp(log S - z)), to full precision at both ends
            loss = -functional.logsigmoid(scale * moved_B - sums.log_sum_B).mean()
            return self.output(loss, self.shard.local(cosine_B), self.shard.local(nearest_B), norm_B)

    def sums(self, embedding_BD: Tensor, label_B: Tensor, factor_B: Tensor | None) -> Sums:
        """Return the sums over all classes of all ranks."""
        weight_CD, own_B = self.taking_part(label_B)
        cosine_B = target_cosine(embedding_BD, weight_CD, own_B, self.shard)
        rule = self.negatives(cosine_B)
        plan = Plan(self.scale, rule, self.ramp, self.stores(len(label_B)), self.shard, factor_B, self.tuning)
        return log_sum(embedding_BD, weight_CD, own_B, cosine_B, plan)

    @property
    def tuning(self) -> Tuning:
        """Return the sizes and ways to compute with."""
        return self.tuned or tuning.of(self.weight.device)

    def stores(self, size: int) -> bool:
        """Return whether exponentials of a batch of ``size`` are kept for the backward pass."""
        num_classes, dim = self.weight.shape
        fits = size <= dim or size * num_classes * self.weight.element_size() <= self.tuning.store_bytes
        return self.mode == "store" or (self.mode == "auto" and fits)

    def taking_part(self, label_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return the centres of this step, and each label as a row of them, -1 if another rank holds it."""
        if self.tuning.asks:  # a training run has checked all its labels before
            low, high = torch.stack(label_B.aminmax()).tolist()
            if low < 0 or high >= self.num_classes:
                raise InputError(f"labels should be in 0..{self.num_classes - 1}, got {low} to {high}")
        held = self.shard.rows(self.num_classes)
        own_B = torch.where((label_B >= held.start) & (label_B < held.stop), label_B - held.start, -1)
        if self.shard.sample_rate == 1:
            return self.weight, own_B
        self.row_K = row_K = self.shard.sample(len(held), own_B)
        weight_KD: Tensor = _Rows.apply(self.weight, row_K)  # type: ignore[no-untyped-call]
        return weight_KD, torch.where(own_B >= 0, torch.searchsorted(row_K, own_B), -1)

    def _mark_coalesced(self, weight: Tensor) -> None:
        """Mark the gradient as coalesced if it is that of one use of the centres, which autograd does not keep in mind.

        Else an optimiser would sort and count its rows, and a GPU would make the host wait for the count. The memory
        tells: the sum of several gradients has indices of its own.
        """
        gradient = weight.grad
        if gradient is not None and self.row_K is not None and gradient.is_sparse:
            gradient._coalesced_(gradient.is_coalesced() or gradient._indices().data_ptr() == self.row_K.data_ptr())


class _Rows(torch.autograd.Function):
    """Some rows of the centres, with a row-sparse gradient.

    A centre that does not take part is not touched, not even by weight decay.
    """

    @staticmethod
    def forward(ctx: Any, weight_CD: Tensor, row_K: Tensor) -> Tensor:
        ctx.save_for_backward(row_K)
        ctx.shape = weight_CD.shape
        return weight_CD.index_select(0, row_K)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (row_K,) = ctx.saved_tensors
        gradient_CD = torch.sparse_coo_tensor(
            row_K[None], grads[0], ctx.shape, is_coalesced=True, check_invariants=False
        )
        return gradient_CD, None
