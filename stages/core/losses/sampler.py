"""Order of training samples: determined by seed and epoch, so a resumed training run sees the same batches.

Nothing but the step is needed to go on, and one process sees the global batches that several share.

Shapes: N samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import InputError

# what the numbers drawn from one seed are for: streams of different purposes never meet; views have the others
ORDER, AUGMENTATION = 0, 1


@dataclass(frozen=True)
class Order:
    """Shuffled epochs of whole batches; the remainder is dropped, a different one in each epoch.

    Several processes share each batch: rank r of R takes the r-th R-th of it, so that gathering over the ranks in
    their order gives the batch that one process would have seen.
    """

    num_samples: int
    batch_size: int
    seed: int
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        """Refuse parts of unequal size: a mean over ranks would not be the mean over the batch.

        Raises:
            ValueError: a batch cannot be shared evenly, or there is no such rank.
        """
        if not 0 <= self.rank < self.world_size:
            raise InputError(f"wanted a rank from 0 to {self.world_size - 1}, got {self.rank}")
        if self.size % self.world_size:
            few = f" ({self.num_samples} samples in total)" if self.size < self.batch_size else ""
            raise InputError(
                f"a batch of {self.size}{few} cannot be divided evenly among {self.world_size} processes: "
                "make schedule.batch_size a multiple of their number"
            )

    @property
    def size(self) -> int:
        """Samples in a batch, over all ranks: ``batch_size``, or all where there are fewer."""
        return min(self.batch_size, self.num_samples)

    @property
    def local_size(self) -> int:
        """Samples of a batch that this rank takes."""
        return self.size // self.world_size

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch, the same for any number of ranks."""
        return self.num_samples // self.size

    def shuffled(self, epoch: int) -> NDArray[np.int64]:
        """Return all sample positions in the order of one epoch, shape (N,)."""
        return np.random.default_rng((self.seed, ORDER, epoch)).permutation(self.num_samples)

    def batches(self, first_step: int, num_steps: int) -> Iterator[list[tuple[int, int]]]:
        """Yield this rank's part of the batches of steps ``first_step`` to ``num_steps`` - 1: (epoch, position)s."""
        step = first_step
        while step < num_steps:
            epoch = step // self.steps_per_epoch
            own_SB = self._own(epoch)
            for batch in range(step % self.steps_per_epoch, self.steps_per_epoch):
                if step == num_steps:
                    return
                yield [(epoch, position) for position in own_SB[batch].tolist()]
                step += 1

    def _own(self, epoch: int) -> NDArray[np.int64]:
        """Return this rank's parts of all batches of an epoch, shape (steps, local size), and no memory of others'."""
        whole_N = self.shuffled(epoch)[: self.steps_per_epoch * self.size]
        own_SB = whole_N.reshape(self.steps_per_epoch, self.world_size, self.local_size)[:, self.rank]
        return own_SB if self.world_size == 1 else own_SB.copy()


class Streams:
    """Random numbers for one sample in one epoch: the same whichever worker draws them, and when.

    Philox counts (Salmon et al., SC 2011), so that a stream is a place in the count: to go there takes a fifth of the
    time that a new generator does.
    """

    def __init__(self, seed: int) -> None:
        key_2 = np.random.SeedSequence((seed, AUGMENTATION)).generate_state(2, np.uint64)
        self._bits = np.random.Philox(key=key_2)
        self._generator = np.random.Generator(self._bits)
        self._start = self._bits.state

    def at(self, epoch: int, position: int, stream: int = 1) -> np.random.Generator:
        """Return the generator, valid until the next call.

        Args:
            epoch: from 0.
            position: of the sample.
            stream: a number from 1 up for each view of the sample.
        """
        # the lowest word is Philox's own: it counts what is drawn
        self._start["state"]["counter"][1:] = (position, epoch, stream)
        self._bits.state = self._start
        return self._generator
