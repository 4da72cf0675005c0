"""How far trainings with other seeds would move Kendall's tau: a bootstrap over the seeds of each row.

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

from stages.core.agreement import Pairs

Floats = NDArray[np.float64]
NUM_DRAWS = 2000
SHARE = 0.9


@dataclass(frozen=True)
class Column:
    """One column's rows, in the order they have in every column."""

    published_R: Sequence[float | None]
    measured_RS: Sequence[Sequence[float] | None]
    decimals: int


@dataclass(frozen=True)
class Interval:
    """Where tau lies in ``SHARE`` of the draws."""

    low: float
    high: float


def intervals(columns: Sequence[Column]) -> tuple[list[Interval | None], Interval | None]:
    """Return the interval of each column's tau and of that over all columns; None where nothing can vary.

    A draw takes n - 1 of a row's n measurements, with replacement, and their mean: with n draws the variance of a mean
    of few would come out too small by (n - 1) / n (Efron, The Jackknife, the Bootstrap and Other Resampling Plans,
    1982). A row with one seed stays where it is, so that the interval is too narrow by what is not known of it.

    >>> apart = Column([1, 2, 3], [[10, 11], [20, 21], [30, 31]], 2)
    >>> intervals([apart])[1]
    Interval(low=1.0, high=1.0)
    """
    num_rows = len(columns[0].published_R) if columns else 0
    num_seeds_R = [max(len(c.measured_RS[r] or ()) for c in columns) for r in range(num_rows)]
    if max(num_seeds_R, default=0) < 2:
        return [None] * len(columns), None
    generator = np.random.default_rng(0)
    drawn_R = [generator.integers(0, max(n, 1), (NUM_DRAWS, max(n - 1, 1))) for n in num_seeds_R]
    counts = [_counts(column, drawn_R) for column in columns]
    pooled_4B = np.zeros((4, NUM_DRAWS), np.int64)
    for found in counts:
        pooled_4B += 0 if found is None else found
    return [None if found is None else _interval(found) for found in counts], _interval(pooled_4B)


def _counts(column: Column, drawn_R: Sequence[NDArray[np.int64]]) -> NDArray[np.int64] | None:
    """Return concordant, discordant, tied left and tied right pairs of every draw; None with fewer than two rows."""
    both = [
        (published, np.asarray(measured)[drawn_R[r]].mean(axis=1))
        for r, (published, measured) in enumerate(zip(column.published_R, column.measured_RS, strict=True))
        if published is not None and measured is not None
    ]
    if len(both) < 2 or all(len(column.measured_RS[r] or ()) < 2 for r in range(len(drawn_R))):
        return None
    first_P, second_P = np.triu_indices(len(both), k=1)
    published_R = np.array([left for left, _ in both])
    mean_RB = np.round(np.stack([right for _, right in both]), column.decimals)
    left_P1 = np.sign(published_R[first_P] - published_R[second_P])[:, None]
    right_PB = np.sign(mean_RB[first_P] - mean_RB[second_P])
    product_PB = left_P1 * right_PB
    tied = [(left_P1 == 0) & (right_PB != 0), (right_PB == 0) & (left_P1 != 0)]
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


def resolved_pairs(published_R: Sequence[float], measured_RS: Sequence[Sequence[float]]) -> Pairs:
    """Count pairs of rows as `count_pairs` does, where all measurements of one row stand above all of the other.

    Other pairs count as tied by the measurements. Two rows that are truly equal are told apart by chance in one case
    of ten with three seeds each, in one of three with two.

    >>> resolved_pairs([1, 2, 3], [[10, 12], [11, 13], [14, 15]])
    Pairs(concordant=2, discordant=0, tied_left=0, tied_right=1, tied_both=0)
    """
    found = Pairs()
    for i in range(len(published_R)):
        for j in range(i):
            left = published_R[i] - published_R[j]
            above = min(measured_RS[i]) > max(measured_RS[j])
            below = max(measured_RS[i]) < min(measured_RS[j])
            if left == 0:
                found += Pairs(tied_left=int(above or below), tied_both=int(not (above or below)))
            elif not (above or below):
                found += Pairs(tied_right=1)
            else:
                found += Pairs(concordant=int(above == (left > 0)), discordant=int(above != (left > 0)))
    return found
