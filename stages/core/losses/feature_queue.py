"""Queue of features of earlier batches, used as negatives; optionally shifted as their class centres moved since.

QGFace's queue (IsidoreSong/QGFace framework.py at c1cfa7b6); the compensation is BroadFace's (ECCV 2020, eq. 4).

Shapes: B batch, K kept, D feature dimensions, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.core.losses.class_parallel import Shard
from stages.core.losses.head import CosineHead


class FeatureQueue(nn.Module):
    """Queue of the newest ``size`` features, newest first; its buffers have their full size from the start."""

    feature_KD: Tensor
    label_K: Tensor
    centre_KD: Tensor
    filled: Tensor

    def __init__(self, size: int, feature_dim: int, *, with_centres: bool) -> None:
        super().__init__()
        self.with_centres = with_centres
        self.register_buffer("feature_KD", torch.zeros(size, feature_dim))
        self.register_buffer("label_K", torch.zeros(size, dtype=torch.long))
        self.register_buffer("centre_KD", torch.zeros(size if with_centres else 0, feature_dim))
        self.register_buffer("filled", torch.tensor(0))

    @property
    def labels(self) -> Tensor:
        """Return the classes of the features."""
        return self.label_K[: int(self.filled)]

    @torch.no_grad()
    def put(self, feature_BD: Tensor, label_B: Tensor, centre_BD: Tensor | None) -> None:
        """Put a batch in front; the oldest features are dropped.

        Args:
            feature_BD: to keep.
            label_B: their classes.
            centre_BD: their class centres as they are now, for a queue ``with_centres``.
        """
        size = len(self.feature_KD)
        new = [(self.feature_KD, feature_BD), (self.label_K, label_B)]
        if self.with_centres:
            assert centre_BD is not None
            new.append((self.centre_KD, centre_BD))
        for kept, fresh in new:
            fresh = fresh[:size].to(kept.dtype)
            kept.copy_(torch.cat([fresh, kept[: size - len(fresh)]]))
        self.filled.copy_((self.filled + len(feature_BD)).clamp(max=size))

    @torch.no_grad()
    def features(self, head: CosineHead) -> Tensor:
        """Return the features; with centres, each shifted as its centre moved and scaled to its own length."""
        count = int(self.filled)
        feature_KD = self.feature_KD[:count]
        if not self.with_centres:
            return feature_KD
        then_KD = self.centre_KD[:count]
        now_KD = class_centres(head, self.labels)
        ratio_K = feature_KD.norm(dim=1) / then_KD.norm(dim=1)
        moved_KD: Tensor = feature_KD + ratio_K[:, None] * (now_KD - then_KD)
        return moved_KD


@torch.no_grad()
def class_centres(head: CosineHead, label_K: Tensor) -> Tensor:
    """Return the head's raw centre of each label, gathered from the process that holds it.

    All processes must ask for the same labels.
    """
    shard: Shard = head.shard
    own = shard.rows(head.num_classes)
    row_K = label_K - own.start
    held_K = (row_K >= 0) & (row_K < len(own))
    centre_KD = functional.embedding(row_K.where(held_K, 0), head.weight) * held_K[:, None]
    return shard.sum_(centre_KD)
