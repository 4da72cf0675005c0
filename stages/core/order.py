"""The order in which a training sees its samples: seed and epoch decide it, so a resumed one goes on alike.

Shapes: N samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# what the numbers drawn from one seed are for: streams of different purposes never meet
ORDER, AUGMENTATION = 0, 1


@dataclass(frozen=True)
class Order:
    """Shuffled epochs of whole batches; what is left of an epoch is dropped, another share in each."""

    num_samples: int
    batch_size: int
    seed: int

    @property
    def size(self) -> int:
        """Samples in a batch: ``batch_size``, or all where there are fewer."""
        return min(self.batch_size, self.num_samples)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        return self.num_samples // self.size

    def shuffled(self, epoch: int) -> NDArray[np.int64]:
        """Return all sample positions in the order of one epoch, shape (N,)."""
        return np.random.default_rng((self.seed, ORDER, epoch)).permutation(self.num_samples)

    def batches(self, first_step: int, num_steps: int) -> Iterator[list[tuple[int, int]]]:
        """Yield the batches of steps ``first_step`` to ``num_steps`` - 1: lists of (epoch, position)."""
        step = first_step
        while step < num_steps:
            epoch = step // self.steps_per_epoch
            position_N = self.shuffled(epoch)
            for batch in range(step % self.steps_per_epoch, self.steps_per_epoch):
                if step == num_steps:
                    return
                begin = batch * self.size
                yield [(epoch, int(position)) for position in position_N[begin : begin + self.size]]
                step += 1


def augmentation_rng(seed: int, epoch: int, position: int) -> np.random.Generator:
    """Return the generator of one sample in one epoch: the same whichever worker draws from it, and when."""
    return np.random.default_rng((seed, AUGMENTATION, epoch, position))
