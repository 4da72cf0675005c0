"""Order statistics of very many scores without sorting them: values at ranks, counts above values, exact ranges.

A histogram says where to look; only what lies there is picked out and sorted. The scores may be known to some
error only (a float32 product): then what could fall on either side of an answer is made exact first, by a function
the caller gives, so that every answer is that of the exact scores.

Shapes: I scores, K asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating[Any]]
Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Indices = NDArray[np.int64]

# bins, and one beyond for scores that are left out, fit 16 bits
_MOST_BINS = 60_000
_CHUNK = 2**20


@dataclass(frozen=True)
class Stretch:
    """All scores in [first, last), rising, and the number of scores at ``last`` or higher."""

    rising_M: Floats
    num_above: int
    first: float
    last: float


class Falling:
    """Scores in falling order, as far as requested."""

    def __init__(
        self,
        score_I: Scores,
        error: float = 0.0,
        exact: Callable[[Indices], Floats] | None = None,
        tied_S: Floats | None = None,
        left_out_K: Indices | None = None,
    ) -> None:
        """Count the scores.

        Args:
            score_I: finite scores, at least one.
            error: by how much each may be off; 0 for exact ones.
            exact: index into ``score_I`` -> exact scores; needed where ``error`` is not 0.
            left_out_K: index of scores that are not to be counted.
            tied_S: where ``error`` is not 0, exact scores that several of ``score_I`` share.
        """
        self.score_I, self.error = score_I, error
        self.tied_S: Floats = np.zeros(0) if tied_S is None else tied_S
        self._exact = exact or (lambda index_K: score_I[index_K].astype(np.float64))
        self.low, high = float(score_I.min()), float(score_I.max())
        num_bins = int(min(_MOST_BINS, max(64, 4 * score_I.size)))
        self.scale = num_bins / (high - self.low) if high > self.low else 0.0
        self.bin_I = np.empty(score_I.size, dtype=np.uint16)
        count_B = np.zeros(num_bins + 1, dtype=np.int64)
        for begin in range(0, score_I.size, _CHUNK):
            part = slice(begin, begin + _CHUNK)
            bin_C = np.minimum(self._places(score_I[part]).astype(np.int64), num_bins)
            self.bin_I[part] = bin_C
            count_B += np.bincount(bin_C, minlength=num_bins + 1)
        self.size = int(score_I.size)
        if left_out_K is not None and left_out_K.size:
            count_B -= np.bincount(self.bin_I[left_out_K], minlength=num_bins + 1)
            self.bin_I[left_out_K] = num_bins + 1
            self.size -= left_out_K.size
        # scores in bin b or higher
        self.from_B: Counts = np.append(np.cumsum(count_B[::-1])[::-1], 0)

    def at(self, rank_K: Counts) -> Floats:
        """Return the scores at ranks from 0 (the highest) on."""
        # the bin of the rank-th: the last whose suffix count is above the rank
        bin_K = np.searchsorted(-self.from_B, -(rank_K + 1), side="right") - 1
        # an order statistic is off by no more than the worst score
        reach = self._reach(2 * self.error)
        low_K, high_K = np.maximum(bin_K - reach, 0), np.minimum(bin_K + reach, self.from_B.size - 2)
        exact_M, begin_K, end_K = self._exact_in(low_K, high_K)
        value_K = np.empty(rank_K.size)
        for k, (rank, begin, end, high) in enumerate(zip(rank_K, begin_K, end_K, high_K, strict=True)):
            place = end - begin - 1 - int(rank - self.from_B[high + 1])
            value_K[k] = np.partition(exact_M[begin:end], place)[place]
        return value_K

    def count(self, value_K: Floats, *, inclusive: bool) -> Counts:
        """Return the number of scores at or above each value."""
        reach = self._reach(self.error)
        place_K = self._places(np.clip(value_K, self.low, None).astype(self.score_I.dtype))
        bin_K = np.minimum(place_K, self.from_B.size - 2).astype(np.int64)
        low_K, high_K = np.maximum(bin_K - reach, 0), np.minimum(bin_K + reach, self.from_B.size - 2)
        exact_M, begin_K, end_K = self._exact_in(low_K, high_K)
        found_K = np.empty(value_K.size, dtype=np.int64)
        for k, (value, begin, end, high) in enumerate(zip(value_K, begin_K, end_K, high_K, strict=True)):
            near_M = exact_M[begin:end]
            found_K[k] = self.from_B[high + 1] + np.count_nonzero(near_M >= value if inclusive else near_M > value)
        return found_K

    def stretches(self, low_rank_K: Counts, high_rank_K: Counts) -> list[Stretch]:
        """Return ranges of exact scores that contain the given ranks.

        Args:
            low_rank_K: of the higher end, from 0.
            high_rank_K: of the lower end.
        """
        low_K, high_K = (
            np.searchsorted(-self.from_B, -(np.clip(rank_K, 0, self.size - 1) + 1), side="right") - 1
            for rank_K in (high_rank_K, low_rank_K)
        )
        reach = 2 * self._reach(2 * self.error) + 1
        low_K, high_K = np.maximum(low_K - reach, 0), np.minimum(high_K + reach, self.from_B.size - 2)
        exact_M, begin_K, end_K = self._exact_in(low_K, high_K)
        found = []
        for low, high, begin, end in zip(low_K, high_K, begin_K, end_K, strict=True):
            rising_M = np.sort(exact_M[begin:end])
            above = int(self.from_B[high + 1])
            # only what is further from the ends than the error, and a bin for its rounded edge, is all there
            first = self._edge(low + 1) + self.error if self.from_B[low] < self.size else -np.inf
            last = self._edge(high) - self.error if above else np.inf
            above += int(np.count_nonzero(rising_M >= last))
            found.append(Stretch(rising_M[(rising_M >= first) & (rising_M < last)], above, first, last))
        return found

    def _edge(self, bin_number: int) -> float:
        return self.low + bin_number / self.scale if self.scale else self.low

    def _reach(self, distance: float) -> int:
        """Return the number of bins a distance may span, plus one, because edges are rounded."""
        return int(np.ceil(distance * self.scale)) + 1

    def _places(self, score_I: Scores) -> Scores:
        """Return the bins of scores; a higher score never has a lower bin."""
        place_I: Scores = score_I - score_I.dtype.type(self.low)
        place_I *= score_I.dtype.type(self.scale)
        return place_I

    def _exact_in(self, low_K: Counts, high_K: Counts) -> tuple[Floats, Counts, Counts]:
        """Return the exact scores in any of the ranges of bins, by bin, and the bounds of each range."""
        edge_B = np.zeros(self.from_B.size + 1, dtype=np.int64)
        np.add.at(edge_B, low_K, 1)
        np.add.at(edge_B, high_K + 1, -1)
        # the bin of what is left out is the last, and in no stretch
        wanted_B = np.cumsum(edge_B[: self.from_B.size]) > 0
        index_M = np.flatnonzero(wanted_B[self.bin_I])
        bin_M = self.bin_I[index_M]
        order_M = np.argsort(bin_M, kind="stable")
        bin_M = bin_M[order_M]
        begin_K, end_K = np.searchsorted(bin_M, low_K, "left"), np.searchsorted(bin_M, high_K, "right")
        return self._exact(index_M)[order_M], begin_K, end_K
