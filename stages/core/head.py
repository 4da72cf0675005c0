"""What every classification head shares: class centres, cosines, softmax cross-entropy, and what it returns.

Shapes: B batch, C classes, D feature dimensions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class HeadOutput:
    """One step of a head. Only ``loss`` carries a gradient."""

    loss: Tensor
    """Scalar to minimise: mean cross-entropy, plus the head's own penalty where it has one."""
    target_cosine_B: Tensor
    """Cosine of each feature with its own class's centre, before the margin."""
    hit_B: Tensor
    """Whether no other centre is nearer than the own one, before the margin."""
    terms: Mapping[str, Tensor] = field(default_factory=dict)
    """Scalars worth logging: parts of the loss, running statistics."""


class CosineHead(nn.Module, ABC):
    """Class centres, and the steps every head takes; a head says what its margin does to the cosines.

    Features come un-normalised. Call it in float32 or float64: cosines near 1 mean nothing in half precision.
    """

    def __init__(self, feature_dim: int, num_classes: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.ramp = 1.0
        """Share of the margin in force: 0 is plain softmax, 1 the published head. A schedule may raise it."""
        # class-major (C, D): a centre is contiguous, and classes can be chunked or sharded without a copy
        self.weight = nn.Parameter(unit_rows(num_classes, feature_dim))

    @abstractmethod
    def with_margin(self, cosine_BC: Tensor, norm_B: Tensor, label_B: Tensor) -> Tensor:
        """Return the cosines with the margin in place; may update the head's running statistics.

        Args:
            cosine_BC: in [-1, 1] up to rounding.
            norm_B: L2 norms of the features, carrying their gradient.
            label_B: int64 in [0, C).
        """

    def penalty(self, norm_B: Tensor) -> tuple[Tensor, Mapping[str, Tensor]] | None:
        """Return what the head adds to the cross-entropy and what to log of it; None for nothing."""
        return None

    def statistics(self) -> Mapping[str, Tensor]:
        """Return running statistics worth logging."""
        return {}

    def logits(self, feature_BD: Tensor, label_B: Tensor) -> Tensor:
        """Return logits_BC with the margin; running statistics follow every call, as in published code."""
        cosine_BC, norm_B = self.cosines(feature_BD)
        return self.scaled(cosine_BC, norm_B, label_B)

    def forward(self, feature_BD: Tensor, label_B: Tensor) -> HeadOutput:
        """Return the loss of a batch, and what is worth logging."""
        cosine_BC, norm_B = self.cosines(feature_BD)
        with torch.no_grad():
            target_cosine_B = pick(cosine_BC, label_B)
            hit_B = target_cosine_B >= cosine_BC.amax(dim=1)
        logits_BC = self.scaled(cosine_BC, norm_B, label_B)
        loss = functional.cross_entropy(logits_BC, label_B)
        terms = dict(self.statistics())
        added = self.penalty(norm_B)
        if added is not None:
            loss = loss + added[0]
            terms.update(added[1])
        return HeadOutput(loss, target_cosine_B, hit_B, terms)

    def scaled(self, cosine_BC: Tensor, norm_B: Tensor, label_B: Tensor) -> Tensor:
        """Return logits_BC with as much of the margin as is in force."""
        moved_BC = self.with_margin(cosine_BC, norm_B, label_B)
        return self.scale * (moved_BC if self.ramp == 1 else torch.lerp(cosine_BC, moved_BC, self.ramp))

    def cosines(self, feature_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosine_BC of every feature with every class centre, and norm_B of the features."""
        norm_B = feature_BD.norm(dim=1)
        embedding_BD = functional.normalize(feature_BD, dim=1)
        return embedding_BD @ functional.normalize(self.weight, dim=1).T, norm_B


@torch.no_grad()
def follow(running: Tensor, value: Tensor, alpha: float) -> None:
    """Move a running statistic towards ``value`` by the share ``alpha``; one not finite moves nothing.

    >>> mean = torch.tensor(20.0)
    >>> follow(mean, torch.tensor(40.0), 0.5)
    >>> follow(mean, torch.tensor(float("nan")), 0.5)
    >>> mean
    tensor(30.)
    """
    running.copy_(torch.where(value.isfinite(), alpha * value + (1 - alpha) * running, running))


def unit_rows(num_classes: int, feature_dim: int) -> Tensor:
    """Return (C, D) centres drawn uniformly in a cube and brought to unit length (AdaFace head.py)."""
    return functional.normalize(torch.empty(num_classes, feature_dim).uniform_(-1, 1), dim=1)


def pick(cosine_BC: Tensor, label_B: Tensor) -> Tensor:
    """Return each row's value at its own class.

    >>> pick(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([1, 0]))
    tensor([2., 3.])
    """
    return cosine_BC.gather(1, label_B[:, None])[:, 0]


def put(cosine_BC: Tensor, target_B: Tensor, label_B: Tensor) -> Tensor:
    """Return ``cosine_BC`` with each row's value at its own class replaced.

    >>> put(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([9.0, 9.0]), torch.tensor([1, 0]))
    tensor([[1., 9.],
            [9., 4.]])
    """
    return cosine_BC.scatter(1, label_B[:, None], target_B[:, None])
