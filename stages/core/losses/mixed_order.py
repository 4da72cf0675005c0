"""Order of training samples of several sources, each with a fixed share of every batch, whatever its size.

Each source is walked through in passes of its own, shuffled anew for each pass: a small one comes round more often. As
with ``Order``, seed and step determine a batch, for any number of processes.

Shapes: N samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import InputError
from stages.core.losses.sampler import ORDER, Order

WITHIN = 2
"""What is drawn from the seed here alone: the places of a batch's images in it. ``ORDER`` is 0, augmentation 1."""


@dataclass(frozen=True)
class MixedOrder(Order):
    """Batches with so many samples of each source; an epoch has as many steps as without shares."""

    positions: Sequence[NDArray[np.int64]] = ()
    """Of each source, the positions of its samples."""
    counts: Sequence[int] = ()
    """Of each source, its samples in a batch over all ranks."""

    def batches(self, first_step: int, num_steps: int) -> Iterator[list[tuple[int, int]]]:
        """Yield this rank's part of the batches of steps ``first_step`` to ``num_steps`` - 1: (pass, position)s."""
        walks = [_Walk(self.seed, number, position_N) for number, position_N in enumerate(self.positions)]
        for step in range(first_step, num_steps):
            items = [item for walk, count in zip(walks, self.counts, strict=True) for item in walk.take(step, count)]
            # among one another: each rank's part is as mixed as the whole
            place_B = np.random.default_rng((self.seed, WITHIN, step)).permutation(len(items))
            begin = self.rank * self.local_size
            yield [items[place] for place in place_B[begin : begin + self.local_size].tolist()]


class _Walk:
    """One source, pass after pass."""

    def __init__(self, seed: int, number: int, position_N: NDArray[np.int64]) -> None:
        self.seed, self.number, self.position_N = seed, number, position_N
        self._shuffled: dict[int, list[int]] = {}

    def take(self, step: int, count: int) -> list[tuple[int, int]]:
        """Return the samples of a step, of which each step takes ``count``."""
        first = step * count
        return [self._at(*divmod(place, len(self.position_N))) for place in range(first, first + count)]

    def _at(self, number_of_pass: int, place: int) -> tuple[int, int]:
        if number_of_pass not in self._shuffled:
            seed = (self.seed, ORDER, self.number + 1, number_of_pass + 1)
            order_N = np.random.default_rng(seed).permutation(self.position_N).tolist()
            self._shuffled = {number_of_pass: order_N}  # those before are over
        return number_of_pass, self._shuffled[number_of_pass][place]


def counts_of(shares: Mapping[str, float], size: int) -> list[int]:
    """Return the samples of each source in a batch of ``size``: shares rounded so that all are used.

    The largest remainders are rounded up, the first ones first where they are equal.

    Raises:
        ValueError: a source would have none.

    >>> counts_of({"web": 0.7, "crowd": 0.3}, 8), counts_of({"a": 1, "b": 1, "c": 1}, 8)
    ([6, 2], [3, 3, 2])
    """
    total = sum(shares.values())
    exact = [size * share / total for share in shares.values()]
    counts = [int(value) for value in exact]
    by_remainder = sorted(range(len(exact)), key=lambda number: counts[number] - exact[number])
    for number in by_remainder[: size - sum(counts)]:
        counts[number] += 1
    for name, count in zip(shares, counts, strict=True):
        if not count:
            raise InputError(f"shares: {name} would have no image in a batch of {size}: raise its share or batch_size")
    return counts
