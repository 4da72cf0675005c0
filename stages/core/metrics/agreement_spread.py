"""Bootstrap of Kendall's tau over the seeds of each row: how far other seeds would move it.

Rows and test images stay as they are: the rows of an ablation are all there are, no sample of some, and what other
test images would give is not asked here. Each row's seeds are drawn for themselves, because seed 1 of one row has no
more to do with seed 1 of another than with its seed 2; all columns see the same draw, because they are measured on the
same trainings.

Shapes: R rows, S seeds (each row has its own number), B draws, P pairs of rows, 4 kinds of pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.core.metrics.agreement import Pairs

Draws = NDArray[np.int64]
NUM_DRAWS = 2000
SHARE = 0.9


@dataclass(frozen=True)
class Column:
    """One column's rows, in the same order in every column: two sides, each with its values over seeds.

    What is published has one value a row. None: a row without a value.
    """

    left_RS: Sequence[Sequence[float] | None]
    right_RS: Sequence[Sequence[float] | None]
    decimals: int


@dataclass(frozen=True)
class Interval:
    """The interval that contains tau in ``SHARE`` of the draws."""

    low: float
    high: float


def intervals(columns: Sequence[Column]) -> tuple[list[Interval | None], Interval | None]:
    """Return the interval of each column's tau and of the overall tau; None where nothing can vary.

    A draw takes n - 1 of a row's n measurements, with replacement, and their mean: with n draws the variance of a mean
    of few would come out too small by (n - 1) / n (Efron, The Jackknife, the Bootstrap and Other Resampling Plans,
    1982). A row with one seed stays where it is, so that the interval is too narrow by what is not known of it.

    >>> apart = Column([[1], [2], [3]], [[10, 11], [20, 21], [30, 31]], 2)
    >>> intervals([apart])[1]
    Interval(low=1.0, high=1.0)
    """
    generator = np.random.default_rng(0)
    right_R = _drawn(generator, [column.right_RS for column in columns])
    left_R = _drawn(generator, [column.left_RS for column in columns])
    counts = [_counts(column, left_R, right_R) for column in columns]
    pooled_4B = np.zeros((4, NUM_DRAWS), np.int64)
    for found in counts:
        pooled_4B += 0 if found is None else found
    return [None if found is None else _interval(found) for found in counts], _interval(pooled_4B)


def _drawn(generator: np.random.Generator, sides: Sequence[Sequence[Sequence[float] | None]]) -> list[Draws]:
    """Return the seeds each row takes in each draw, the same in all columns."""
    num_seeds_R = [max(len(values or ()) for values in row) for row in zip(*sides, strict=True)]
    return [generator.integers(0, max(n, 1), (NUM_DRAWS, max(n - 1, 1))) for n in num_seeds_R]


def _counts(column: Column, left_R: Sequence[Draws], right_R: Sequence[Draws]) -> NDArray[np.int64] | None:
    """Return concordant, discordant, tied left and tied right pairs of every draw; None where nothing can vary."""
    both = [
        (np.asarray(left)[left_R[r]], np.asarray(right)[right_R[r]])
        for r, (left, right) in enumerate(zip(column.left_RS, column.right_RS, strict=True))
        if left is not None and right is not None
    ]
    lone = all(len(values or ()) < 2 for side in (column.left_RS, column.right_RS) for values in side)
    if len(both) < 2 or lone:
        return None
    first_P, second_P = np.triu_indices(len(both), k=1)
    signs = []
    for side in zip(*both, strict=True):
        mean_RB = np.round(np.stack([drawn.mean(axis=1) for drawn in side]), column.decimals)
        signs.append(np.sign(mean_RB[first_P] - mean_RB[second_P]))
    left_PB, right_PB = signs
    product_PB = left_PB * right_PB
    tied = [(left_PB == 0) & (right_PB != 0), (right_PB == 0) & (left_PB != 0)]
    return np.stack([part.sum(axis=0) for part in (product_PB > 0, product_PB < 0, *tied)])


def _interval(counts_4B: NDArray[np.int64]) -> Interval | None:
    concordant, discordant, tied_left, tied_right = counts_4B
    untied = concordant + discordant
    below = np.sqrt((untied + tied_right) * (untied + tied_left).astype(float))
    taus = (concordant - discordant)[below > 0] / below[below > 0]
    if taus.size == 0:
        return None
    tail = (1 - SHARE) / 2
    low, high = np.quantile(taus, [tail, 1 - tail], method="inverted_cdf")
    return Interval(float(low), float(high))


def resolved_pairs(left_RS: Sequence[Sequence[float]], right_RS: Sequence[Sequence[float]]) -> Pairs:
    """Count pairs of rows as `count_pairs` does, but only if all values of one row are above all of the other.

    Pairs that overlap count as tied on that side. Two rows that are truly equal are told apart by chance in one case of
    ten with three seeds each, in one of three with two.

    >>> resolved_pairs([[1], [2], [3]], [[10, 12], [11, 13], [14, 15]])
    Pairs(concordant=2, discordant=0, tied_left=0, tied_right=1, tied_both=0)
    """
    found = Pairs()
    for i in range(len(left_RS)):
        for j in range(i):
            left, right = _apart(left_RS[i], left_RS[j]), _apart(right_RS[i], right_RS[j])
            found += Pairs(
                concordant=int(left * right > 0),
                discordant=int(left * right < 0),
                tied_left=int(left == 0 != right),
                tied_right=int(right == 0 != left),
                tied_both=int(left == right == 0),
            )
    return found


def _apart(one_S: Sequence[float], other_S: Sequence[float]) -> int:
    """Return 1 if all values of one are above all of the other, -1 if below, 0 if they overlap."""
    return int(min(one_S) > max(other_S)) - int(max(one_S) < min(other_S))
