"""Embeds images by several processes: each takes every N-th, and all get the features of all.

Shapes: N images, M images of one process, D feature dimensions.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from stages.core.errors import InputError
from stages.core.losses.class_parallel import Shard
from stages.core.metrics.features import Features, Floats, Image
from stages.core.metrics.processing import Failure, Processed
from stages.embedding.embedder import Embedder
from stages.runtime.progress import Progress


@dataclass(frozen=True)
class SharedEmbed:
    """An embedder of this process among those of ``shard``; all must call it alike, for the same images.

    A batch of one fixed size gives each image the same bits whatever else is in it, so the features are those of one
    process.
    """

    embedder: Embedder
    shard: Shard

    def __call__(self, images: Iterable[Image]) -> Features:
        """Return the features of all images, in their order; each process is given all of them."""
        listed = list(images)
        return self.process("images", listed.__getitem__, len(listed), max_failed=0.0, label="embed").features

    def process(
        self, what: str, image: Callable[[int], Image | Failure], num_images: int, *, max_failed: float, label: str
    ) -> Processed:
        """Embed the readable images of a set; each process reads its share, also of what cannot be read.

        Args:
            what: name of the set, for messages.
            image: returns an image by its number, or why it cannot be read.
            num_images: how many there are.
            max_failed: share of images that may fail, in [0, 1].
            label: of the progress lines.

        Raises:
            ValueError: more failed, or none is left; in all processes alike.
        """
        mine = range(self.shard.rank, num_images, self.shard.world_size)
        failures: dict[int, Failure] = {}

        def readable() -> Iterator[Image]:
            for number in Progress(label, len(mine), "images").over(mine):
                item = image(number)
                if isinstance(item, Failure):
                    failures[number] = item
                else:
                    yield item

        images = readable()
        first = next(images, None)
        own = None if first is None else self.embedder(itertools.chain([first], images))
        row_M = np.array([number for number in mine if number not in failures], np.int64)
        failed = {number: one for part in self.shard.gather_objects(failures) for number, one in part.items()}
        _check_failures(what, failed, num_images, max_failed)
        feature_ND = self._all(row_M, None if own is None else own.feature_ND, num_images)
        flipped_ND = None
        if self.embedder.flip:
            flipped_ND = self._all(row_M, None if own is None else own.flipped_ND, num_images)
        processed_N = np.ones(num_images, np.bool_)
        processed_N[list(failed)] = False
        in_order = tuple(failed[number] for number in sorted(failed))
        return Processed(Features(feature_ND, flipped_ND), processed_N, in_order)

    def _all(self, row_M: NDArray[np.int64], own_MD: Floats | None, count: int) -> Floats:
        """Return the features of all processes; one that could read none of its images learns their dimensions."""
        device = self.embedder.device
        dim = int(self.shard.max_(torch.tensor([0 if own_MD is None else own_MD.shape[1]], device=device)))
        whole_ND = np.zeros((count, dim), np.float32)
        if own_MD is not None:
            whole_ND[row_M] = own_MD
        summed_ND: Floats = self.shard.sum_(torch.from_numpy(whole_ND).to(device)).cpu().numpy()
        return summed_ND


def _check_failures(what: str, failed: dict[int, Failure], num_images: int, max_failed: float) -> None:
    if len(failed) <= max_failed * num_images and len(failed) < num_images:
        return
    first = f"; the first is {failed[min(failed)].name}: {failed[min(failed)].reason}" if failed else ""
    raise InputError(
        f"{what}: {len(failed)} of {num_images} images cannot be processed; at most a share of {max_failed:g} may fail "
        f"(max_failed), and one must be left{first}"
    )
