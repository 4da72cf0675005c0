"""Base of classification heads: class centres, cosines, softmax cross-entropy, and the output type.

The published heads stand on ``stages/core/losses/margin_head.py``, which never holds all cosines twice.

Shapes: B batch, C classes, D feature dimensions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.core.errors import InputError
from stages.core.losses.class_parallel import Shard

DRAWN_ROWS = 4096
"""Centres drawn at a time: a shard draws all centres, keeps its own, and holds no more than these."""


@dataclass(frozen=True)
class HeadOutput:
    """One step of a head. Only ``loss`` carries a gradient.

    Where the classes are sharded, the loss is that of all ranks' images, and the rest is of this rank's own.
    """

    loss: Tensor
    """Scalar to minimise: mean cross-entropy, plus the head's own penalty if it has one."""
    target_cosine_B: Tensor
    """Cosine of each feature with its own class's centre, before the margin."""
    hit_B: Tensor
    """Whether no other centre is nearer than the own one, before the margin."""
    terms: Mapping[str, Tensor] = field(default_factory=dict)
    """Scalars worth logging: parts of the loss, running statistics."""
    nearest_cosine_B: Tensor | None = None
    """Cosine of each feature with the nearest centre of another class; None if a head does not compute it."""


class CosineHead(nn.Module, ABC):
    """Class centres and the steps that all heads share; subclasses apply their margin to the cosines.

    Features come un-normalised. Call it in float32 or float64: cosines near 1 mean nothing in half precision.
    """

    wants_quality = False
    """Whether ``forward`` needs ``quality_B``."""
    quality_of_batch_B: Tensor | None = None
    """Default of ``quality_B`` in ``forward``: the training loop sets it before each step."""
    centres = 1
    """Centres of each class; of several, ``weight`` has them one after another in the class's row."""
    shardable = False
    """Whether the classes may be spread over processes, or a part of them drawn for each step."""

    def __init__(self, feature_dim: int, num_classes: int, scale: float, shard: Shard | None = None) -> None:
        super().__init__()
        self.scale = scale
        self.ramp = 1.0
        """Share of the margin in force: 0 is plain softmax, 1 the published head. A schedule may raise it."""
        self.num_classes = num_classes
        """Number of classes over all ranks."""
        self.shard = shard or Shard()
        if self.shard != Shard() and not self.shardable:
            raise InputError(f"{type(self).__module__} needs all cosines at once: it cannot be sharded or sampled")
        # class-major (C, D): a centre is contiguous, and classes can be chunked or sharded without a copy
        self.weight = nn.Parameter(self.initial(feature_dim))

    def initial(self, feature_dim: int) -> Tensor:
        """Return the initial centres; those of this rank's classes, if they are sharded."""
        return unit_rows(self.num_classes, feature_dim, self.shard)

    @abstractmethod
    def with_margin(self, cosine_BC: Tensor, norm_B: Tensor, label_B: Tensor) -> Tensor:
        """Return the cosines with the margin applied; may update the head's running statistics.

        Args:
            cosine_BC: in [-1, 1] up to rounding.
            norm_B: L2 norms of the features, carrying their gradient.
            label_B: int64 in [0, C).
        """

    def penalty(self, norm_B: Tensor) -> tuple[Tensor, Mapping[str, Tensor]] | None:
        """Return the head's addition to the cross-entropy and the values to log; None for none."""
        return None

    def statistics(self) -> Mapping[str, Tensor]:
        """Return running statistics worth logging."""
        return {}

    def logits(self, feature_BD: Tensor, label_B: Tensor) -> Tensor:
        """Return logits_BC with the margin; every call updates running statistics, as in published code."""
        cosine_BC, norm_B = self.cosines(feature_BD)
        return self.scaled(cosine_BC, norm_B, label_B)

    def forward(
        self, feature_BD: Tensor, label_B: Tensor, quality_B: Tensor | None = None, factor_B: Tensor | None = None
    ) -> HeadOutput:
        """Return the loss of a batch, and values to log.

        Args:
            feature_BD: un-normalised.
            label_B: int64 in [0, C).
            quality_B: of each image, higher is better; for heads with ``wants_quality``.
            factor_B: in [0, 1], what each image's logits are multiplied by (QGFace), without a gradient.
        """
        cosine_BC, norm_B = self.cosines(feature_BD)
        with torch.no_grad():
            target_cosine_B = pick(cosine_BC, label_B)
            nearest_B = others(cosine_BC, label_B).amax(dim=1)
        logits_BC = self.scaled(cosine_BC, norm_B, label_B)
        if factor_B is not None:
            logits_BC = logits_BC * factor_B.detach()[:, None]
        return self.output(functional.cross_entropy(logits_BC, label_B), target_cosine_B, nearest_B, norm_B)

    def quality(self, quality_B: Tensor | None, size: int) -> Tensor | None:
        """Return the quality of each image of a batch, None for heads that do not use it.

        Raises:
            ValueError: there is none, or that of another number of images.
        """
        if not self.wants_quality:
            return None
        known_B = self.quality_of_batch_B if quality_B is None else quality_B
        if known_B is None:
            raise InputError("this head needs the quality of each image: pass quality_B")
        if len(known_B) != size:
            raise InputError(
                f"quality of {len(known_B)} images, but {size} features: an objective that passes more features than "
                "the batch cannot be combined with a head that uses each image's quality"
            )
        return known_B.detach()

    def output(self, loss: Tensor, cosine_B: Tensor, nearest_B: Tensor, norm_B: Tensor) -> HeadOutput:
        """Return the loss with the head's penalty added, and values to log."""
        terms = dict(self.statistics())
        added = self.penalty(norm_B)
        if added is not None:
            loss = loss + added[0]
            terms.update(added[1])
        return HeadOutput(loss, cosine_B, cosine_B >= nearest_B, terms, nearest_B)

    def scaled(self, cosine_BC: Tensor, norm_B: Tensor, label_B: Tensor) -> Tensor:
        """Return logits_BC with the part of the margin that is in force."""
        moved_BC = self.with_margin(cosine_BC, norm_B, label_B)
        return self.scale * (moved_BC if self.ramp == 1 else torch.lerp(cosine_BC, moved_BC, self.ramp))

    def cosines(self, feature_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosine_BC of every feature with every class centre, and norm_B of the features."""
        embedding_BD, norm_B = directions(feature_BD)
        return embedding_BD @ functional.normalize(self.weight, dim=1).T, norm_B


def directions(feature_BD: Tensor) -> tuple[Tensor, Tensor]:
    """Return the features at unit length, and their norms.

    A feature of length 0 has no direction: it stays 0 and gets no gradient, where a division by a small number
    would give it a huge one. A norm too large for its type gives NaN, so that the loss says so.

    >>> directions(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    (tensor([[0.6000, 0.8000],
            [0.0000, 0.0000]]), tensor([5., 0.]))
    """
    norm_B = feature_BD.norm(dim=1)
    # below the root of the smallest number the squares in a norm are lost
    has_length_B = norm_B > torch.finfo(norm_B.dtype).tiny ** 0.5
    # 1 in its place first: a division by 0 that is masked afterwards still has a gradient that is none
    inverse_B = torch.where(has_length_B, 1 / norm_B.where(has_length_B, 1.0), 0.0)
    inverse_B = inverse_B.where(norm_B.isfinite(), torch.nan)
    return feature_BD * inverse_B[:, None], norm_B


@torch.no_grad()
def follow(running: Tensor, value: Tensor, alpha: float) -> None:
    """Move a running statistic towards ``value`` by the share ``alpha``; values that are not finite are ignored.

    >>> mean = torch.tensor(20.0)
    >>> follow(mean, torch.tensor(40.0), 0.5)
    >>> follow(mean, torch.tensor(float("nan")), 0.5)
    >>> mean
    tensor(30.)
    """
    moved = alpha * value + (1 - alpha) * running
    running.copy_(torch.where(moved.isfinite(), moved, running))


def unit_rows(num_classes: int, feature_dim: int, shard: Shard) -> Tensor:
    """Return centres drawn uniformly in a cube and brought to unit length (AdaFace head.py)."""
    return drawn_rows(num_classes, feature_dim, shard, lambda rows: functional.normalize(rows.uniform_(-1, 1), dim=1))


def drawn_rows(num_classes: int, feature_dim: int, shard: Shard, draw: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the shard's rows of (C, D) initial centres, which do not depend on the number of shards.

    Args:
        num_classes: of all shards.
        feature_dim: D.
        shard: whose rows to return.
        draw: fills some rows from torch's generator and returns them.
    """
    own = shard.rows(num_classes)
    weight_CD = torch.empty(len(own), feature_dim)
    for first in range(0, num_classes, DRAWN_ROWS):
        drawn_KD = draw(torch.empty(min(DRAWN_ROWS, num_classes - first), feature_dim))
        low, high = max(first, own.start), min(first + len(drawn_KD), own.stop)
        if low < high:
            weight_CD[low - own.start : high - own.start] = drawn_KD[low - first : high - first]
    return weight_CD


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


def others(cosine_BC: Tensor, label_B: Tensor) -> Tensor:
    """Return ``cosine_BC`` with each row's own class at -inf."""
    return cosine_BC.scatter(1, label_B[:, None], -torch.inf)
