"""Class-parallel heads: the classes of each process, and the exchanges that make its batch the whole one.

As in Partial FC (An et al., CVPR 2022; insightface partial_fc_v2.py at 7fadd420): every process sees all features
and its own classes. Unlike there, the gradients are those of one process holding everything, to rounding.

Shapes: B whole batch, L batch of one process (B = L x world size), D feature dimensions.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from stages.core.errors import InputError
from stages.core.losses import tuning

V = TypeVar("V")


@dataclass(frozen=True)
class Shard:
    """One process's classes. The full weight is the concatenation over the ranks."""

    rank: int = 0
    world_size: int = 1
    group: distributed.ProcessGroup | None = None
    """Process group; None: the default group."""
    sample_rate: float = 1.0
    """Share of the classes that take part in a step (Partial FC), those of the batch always among them."""

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size:
            raise InputError(f"rank should be in 0..{self.world_size - 1}, got {self.rank}")
        if not 0 < self.sample_rate <= 1:
            raise InputError(f"sample_rate should be in (0, 1], got {self.sample_rate}")

    def rows(self, num_classes: int) -> range:
        """Return the classes of this rank; the first ranks hold one more if the division has a remainder.

        >>> [Shard(rank, 3).rows(8) for rank in range(3)]
        [range(0, 3), range(3, 6), range(6, 8)]
        """
        each, rest = divmod(num_classes, self.world_size)
        begin = each * self.rank + min(self.rank, rest)
        return range(begin, begin + each + (self.rank < rest))

    def sum_(self, value: Tensor) -> Tensor:
        """Sum ``value`` over the ranks, in place."""
        if self.world_size > 1:
            distributed.all_reduce(value, group=self.group)
        return value

    def max_(self, value: Tensor) -> Tensor:
        """Take the maximum of ``value`` over the ranks, in place."""
        if self.world_size > 1:
            distributed.all_reduce(value, distributed.ReduceOp.MAX, group=self.group)
        return value

    def first_(self, values: Iterable[Tensor]) -> None:
        """Replace each value by the first rank's, in place."""
        for value in values:
            if self.world_size > 1:
                distributed.broadcast(value, 0, group=self.group)

    def gather_objects(self, value: V) -> list[V]:
        """Return a value of every rank, pickled on the way, in rank order."""
        found: list[V] = [value] * self.world_size
        if self.world_size > 1:
            distributed.all_gather_object(found, value, group=self.group)
        return found

    def gather(self, local_L: Tensor) -> Tensor:
        """Return the rows of all ranks in rank order, without a gradient.

        Raises:
            ValueError: the ranks' batches are of different sizes; not checked on a GPU, where a training run has.
        """
        if self.world_size == 1:
            return local_L
        if tuning.of(local_L.device).asks:
            # both ends in one exchange: all ranks see the same, so all refuse together
            size_2 = self.max_(torch.tensor([len(local_L), -len(local_L)]))
            if size_2[0] != -size_2[1]:
                raise InputError(f"every rank needs a batch of one size, got {-int(size_2[1])} to {int(size_2[0])}")
        parts = [torch.empty_like(local_L) for _ in range(self.world_size)]
        distributed.all_gather(parts, local_L.contiguous(), group=self.group)
        return torch.cat(parts)

    def gather_features(self, feature_LD: Tensor) -> Tensor:
        """Return the features of all ranks, with the gradient of this rank's rows (see ``_Gather``)."""
        gathered_BD: Tensor = _Gather.apply(feature_LD, self)  # type: ignore[no-untyped-call]
        return gathered_BD

    def shared(self, value: Tensor) -> Tensor:
        """Return ``value``, which all ranks have; its gradient becomes the sum of the ranks' gradients."""
        if self.world_size == 1:
            return value
        same: Tensor = _Shared.apply(value, self)  # type: ignore[no-untyped-call]
        return same

    def summed(self, value: Tensor) -> Tensor:
        """Return the sum of ``value`` over the ranks; each rank's part gets the gradient of the sum."""
        if self.world_size == 1:
            return value
        total: Tensor = _Summed.apply(value, self)  # type: ignore[no-untyped-call]
        return total

    def local(self, whole_B: Tensor) -> Tensor:
        """Return this rank's rows of the result of ``gather``."""
        each = len(whole_B) // self.world_size
        return whole_B[self.rank * each : (self.rank + 1) * each]

    def sample(self, num_classes: int, own_B: Tensor) -> Tensor:
        """Return rows that take part in a step, ascending: those of the batch, and others at random.

        Drawn from the CPU's generator, which a training seeds for each step.

        Args:
            num_classes: of this rank.
            own_B: rows of the batch's classes, negative where another rank holds one.
        """
        if not tuning.of(own_B.device).asks:
            return self._sample_unasked(num_classes, own_B)
        positive_P = torch.unique(own_B[own_B >= 0])
        chance_C = torch.rand(num_classes)
        chance_C[positive_P] = 2
        count = max(round(self.sample_rate * num_classes), len(positive_P))
        return chance_C.topk(count).indices.sort().values

    def _sample_unasked(self, num_classes: int, own_B: Tensor) -> Tensor:
        """Return the same without asking the device how many classes the batch has: as many as images, at most."""
        drawn_C = torch.rand(num_classes)
        on_gpu = own_B.device.type == "cuda"
        chance_C = (drawn_C.pin_memory() if on_gpu else drawn_C).to(own_B.device, non_blocking=True)
        wanted_B = torch.where(own_B >= 0, 2.0, -1.0)
        chance_C.scatter_reduce_(0, own_B.clamp_min(0), wanted_B, "amax")
        count = max(round(self.sample_rate * num_classes), min(len(own_B), num_classes))
        return chance_C.topk(count).indices.sort().values


def of_processes() -> Shard:
    """Return this process's shard among those of the training run; the only one without a process group."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return Shard()
    return Shard(distributed.get_rank(), distributed.get_world_size())


class _Gather(torch.autograd.Function):
    """Gathers all features. The gradient must be complete and equal on all ranks; each rank takes its own rows.

    Times the world size, because data-parallel training then takes the mean over ranks where the gradient of
    the whole batch's loss is their sum.
    """

    @staticmethod
    def forward(ctx: Any, feature_LD: Tensor, shard: Shard) -> Tensor:
        ctx.shard = shard
        return shard.gather(feature_LD)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        shard: Shard = ctx.shard
        return shard.local(grads[0]) * shard.world_size, None


class _Shared(torch.autograd.Function):
    """The identity, whose gradient is summed over the ranks."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, shard: Shard) -> Tensor:
        ctx.shard = shard
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return ctx.shard.sum_(grads[0].clone()), None


class _Summed(torch.autograd.Function):
    """The sum over the ranks, whose gradient goes to each rank's part."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, shard: Shard) -> Tensor:
        return shard.sum_(value.clone())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None
