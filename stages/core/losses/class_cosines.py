"""Cosines with the own class's centre and the nearest other one, without a head's margin or statistics.

Shapes: B batch, C classes, D feature dimensions.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from stages.core.losses.head import CosineHead

CLASSES_AT_ONCE = 8192


@torch.no_grad()
def own_and_nearest(head: CosineHead, feature_BD: Tensor, label_B: Tensor) -> tuple[Tensor, Tensor]:
    """Return CCS and NNCCS of each feature, shape (B,) each, in chunks of classes.

    Where the classes are shared among processes, all must call this, each with its own batch of one size.

    Args:
        head: holds the centres.
        feature_BD: un-normalised.
        label_B: own classes.
    """
    shard = head.shard
    embedding_BD = shard.gather(functional.normalize(feature_BD, dim=1))
    whole_label_B = shard.gather(label_B)
    first = shard.rows(head.num_classes).start
    low = torch.finfo(embedding_BD.dtype).min
    own_B, nearest_B = (torch.full_like(embedding_BD[:, 0], low) for _ in range(2))
    for start in range(0, len(head.weight), CLASSES_AT_ONCE):
        centre_KD = functional.normalize(head.weight[start : start + CLASSES_AT_ONCE], dim=1)
        cosine_BK = embedding_BD @ centre_KD.T
        row_B = whole_label_B - first - start
        held_B = (row_B >= 0) & (row_B < len(centre_KD))
        index_B1 = row_B.where(held_B, 0)[:, None]
        mine_B = cosine_BK.gather(1, index_B1)[:, 0]
        own_B = torch.where(held_B, mine_B, own_B)
        cosine_BK.scatter_(1, index_B1, torch.where(held_B, low, mine_B)[:, None])
        nearest_B = torch.maximum(nearest_B, cosine_BK.amax(dim=1))
    return shard.local(shard.max_(own_B)), shard.local(shard.max_(nearest_B))
