"""Embeds images by several processes: each takes every N-th, and all get the features of all.

Shapes: N images, D feature dimensions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from stages.core.losses.class_parallel import Shard
from stages.core.metrics.features import Features, Floats, Image
from stages.embedding.embedder import Embedder


@dataclass(frozen=True)
class SharedEmbed:
    """An embedder of this process among those of ``shard``; all must call it with the same images.

    Each process reads all images, and its network sees its share. A batch of one fixed size gives each image the same
    bits whatever else is in it, so the features are those of one process.
    """

    embedder: Embedder
    shard: Shard

    def __call__(self, images: Iterable[Image]) -> Features:
        """Return the features of all images, in their order."""
        count = 0

        def mine() -> Iterator[Image]:
            nonlocal count
            for image in images:
                # the first one too, so that a process without a share knows the number of dimensions
                if count == 0 or count % self.shard.world_size == self.shard.rank:
                    yield image
                count += 1

        own = self.embedder(mine())
        flipped_ND = None if own.flipped_ND is None else self._all(own.flipped_ND, count)
        return Features(self._all(own.feature_ND, count), flipped_ND)

    def _all(self, own_MD: Floats, count: int) -> Floats:
        rank, size = self.shard.rank, self.shard.world_size
        share_MD = own_MD if rank == 0 else own_MD[1:]
        whole_ND = np.zeros((count, own_MD.shape[1]), np.float32)
        whole_ND[rank::size] = share_MD
        summed_ND: Floats = self.shard.sum_(torch.from_numpy(whole_ND).to(self.embedder.device)).cpu().numpy()
        return summed_ND
