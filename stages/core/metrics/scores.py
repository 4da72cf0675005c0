"""Cosine similarities of listed pairs of templates, by matrix products over blocks instead of pair by pair.

Shapes: T templates, P pairs, D embedding dimensions, B pairs of a block, K pairs asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.metrics.ranking import Falling
from stages.core.metrics.search import products, rounding_error

Embeddings = NDArray[np.floating[Any]]
Rows = NDArray[np.integer[Any]]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Tick = Callable[[int], None]

# of a template or image that could not be processed: it matches nobody at any threshold
NO_MATCH = -1.0

_ROWS = 64
# below this share of used cells a product computes more than gathering would
_DENSE = 1 / 24
# and above this share of used columns it takes them all, as they lie
_CONTIGUOUS = 1 / 2
_CHUNK = 2**18


@dataclass(frozen=True)
class PairScores:
    """Scores of listed pairs, in order: float32 with a bounded ``error``, and exact on request.

    An exact score is the float64 product of the two embeddings, the same bits wherever the pair stands in the
    list, whatever library or number of threads made the others.
    """

    embedding_TD: Embeddings
    first_P: Rows
    second_P: Rows
    processed_T: Mask | None
    score_P: NDArray[np.float32]
    error: float

    def exact(self, index_K: NDArray[np.int64]) -> Floats:
        """Return the exact scores of some pairs."""
        first_K, second_K = self.first_P[index_K], self.second_P[index_K]
        score_K = products(self.embedding_TD, self.embedding_TD, first_K, second_K)
        if self.processed_T is not None:
            score_K[~(self.processed_T[first_K] & self.processed_T[second_K])] = NO_MATCH
        return score_K

    def sides(self, is_same_P: Mask) -> tuple[Floats, Falling | Floats]:
        """Return the exact scores of the genuine pairs, and the impostors', made exact where a rate needs it."""
        genuine_G = np.flatnonzero(is_same_P)
        if genuine_G.size == is_same_P.size:
            return self.exact(genuine_G), np.zeros(0)
        tied_S = np.unique(self.exact(self._shared(is_same_P)))
        if self.processed_T is not None and not self.processed_T.all():
            tied_S = np.append(NO_MATCH, tied_S)
        return self.exact(genuine_G), Falling(self.score_P, self.error, self.exact, tied_S, genuine_G)

    def _shared(self, is_same_P: Mask) -> NDArray[np.int64]:
        """Return one of each group of processed impostor pairs that have equal embeddings on both sides."""
        canonical_T = _canonical(self.embedding_TD)
        doubled_T = np.bincount(canonical_T, minlength=canonical_T.size)[canonical_T] > 1
        if not doubled_T.any():
            return np.zeros(0, dtype=np.int64)
        among_P = (doubled_T[self.first_P] | doubled_T[self.second_P]) & ~is_same_P
        if self.processed_T is not None:
            # a pair without an image scores NO_MATCH: it may not stand for those whose embeddings equal its own
            among_P &= self.processed_T[self.first_P] & self.processed_T[self.second_P]
        place_K = np.flatnonzero(among_P)
        left_K, right_K = canonical_T[self.first_P[place_K]], canonical_T[self.second_P[place_K]]
        key_K = np.minimum(left_K, right_K) * canonical_T.size + np.maximum(left_K, right_K)
        _, first_S, count_S = np.unique(key_K, return_index=True, return_counts=True)
        return place_K[first_S[count_S > 1]]


def sieve_pairs(
    embedding_TD: Embeddings,
    first_P: Rows,
    second_P: Rows,
    processed_T: Mask | None = None,
    tick: Tick = lambda count: None,
) -> PairScores:
    """Return the scores of all pairs, computed in float32; three times as fast as ``pair_scores``.

    Arguments are those of ``pair_scores``.
    """
    embedding32_TD = np.ascontiguousarray(embedding_TD, dtype=np.float32)
    score_P = np.empty(first_P.size, dtype=np.float32)
    _score(embedding32_TD, first_P, second_P, score_P, tick)
    _blank_failed(score_P, first_P, second_P, processed_T)
    error = rounding_error(embedding_TD.shape[1])
    return PairScores(embedding_TD, first_P, second_P, processed_T, score_P, error)


def pair_scores(
    embedding_TD: Embeddings,
    first_P: Rows,
    second_P: Rows,
    processed_T: Mask | None = None,
    tick: Tick = lambda count: None,
) -> Floats:
    """Return the dot product of each pair of rows, in the pairs' order; float64 as in the published scripts.

    Args:
        embedding_TD: unit length, so that the products are cosines.
        first_P: row of the first template of each pair.
        second_P: row of the second.
        processed_T: False for templates without any processed image; their pairs score ``NO_MATCH``.
        tick: called with a number of pairs each time so many more are done.
    """
    score_P = np.empty(first_P.size, dtype=np.float64)
    _score(embedding_TD, first_P, second_P, score_P, tick)
    _blank_failed(score_P, first_P, second_P, processed_T)
    return score_P


def _canonical(embedding_TD: Embeddings) -> NDArray[np.int64]:
    """Return for each row the first equal row, compared by a 64-bit digest of its bits."""
    words_TD = np.ascontiguousarray(embedding_TD, dtype=np.float64).view(np.uint64)
    odd_D = np.random.default_rng(0).integers(0, 2**63, words_TD.shape[1], dtype=np.uint64) * 2 + 1
    words_TD = words_TD ^ (words_TD >> np.uint64(29))
    key_T = (words_TD * odd_D).sum(axis=1, dtype=np.uint64)
    _, first_U, of_T = np.unique(key_T, return_index=True, return_inverse=True)
    return first_U[of_T].astype(np.int64)


def _score(embedding_TD: Embeddings, first_P: Rows, second_P: Rows, score_P: NDArray[Any], tick: Tick) -> None:
    for where, top in _blocks(first_P, len(embedding_TD)):
        first_B, second_B = first_P[where], second_P[where]
        score_P[where] = _block(embedding_TD, first_B, second_B, top)
        tick(first_B.size)


def _blocks(first_P: Rows, num_rows: int) -> Iterator[tuple[slice | NDArray[np.int64], int]]:
    """Yield the pairs whose first template is in each block of ``_ROWS`` rows, and the block's first row."""
    tops = np.arange(0, num_rows + _ROWS, _ROWS)
    if bool(np.all(first_P[:-1] <= first_P[1:])):
        bounds = np.searchsorted(first_P, tops)
        order_P = None
    else:
        # by block only, in 16 bits where they are enough: numpy sorts those by radix
        block_P = (first_P // _ROWS).astype(np.uint16 if num_rows // _ROWS < 2**16 else np.int64)
        order_P = np.argsort(block_P, kind="stable")
        bounds = np.concatenate([[0], np.cumsum(np.bincount(block_P, minlength=tops.size - 1))])
    for top, begin, end in zip(tops[:-1], bounds[:-1], bounds[1:], strict=True):
        if begin < end:
            yield slice(begin, end) if order_P is None else order_P[begin:end], int(top)


def _block(embedding_TD: Embeddings, first_B: Rows, second_B: Rows, top: int) -> NDArray[Any]:
    rows_RD = embedding_TD[top : top + _ROWS]
    left, right = int(second_B.min()), int(second_B.max()) + 1
    used = np.zeros(right - left, dtype=np.bool_)
    used[second_B - left] = True
    num_used = int(np.count_nonzero(used))
    if first_B.size < _DENSE * len(rows_RD) * num_used:
        return _gather(embedding_TD, first_B, second_B)
    if num_used >= _CONTIGUOUS * (right - left):
        columns_CD, column_B = embedding_TD[left:right], second_B - left
    else:
        columns_CD, column_B = embedding_TD[left:right][used], (np.cumsum(used) - 1)[second_B - left]
    product = rows_RD @ columns_CD.T
    picked: NDArray[Any] = np.take(product.ravel(), (first_B - top) * np.int64(product.shape[1]) + column_B)
    return picked


def _gather(embedding_TD: Embeddings, first_B: Rows, second_B: Rows) -> NDArray[Any]:
    score_B = np.empty(first_B.size, dtype=embedding_TD.dtype)
    step = max(1, _CHUNK // embedding_TD.shape[1])
    for begin in range(0, first_B.size, step):
        part = slice(begin, begin + step)
        score_B[part] = np.einsum("bd,bd->b", embedding_TD[first_B[part]], embedding_TD[second_B[part]])
    return score_B


def _blank_failed(score_P: NDArray[Any], first_P: Rows, second_P: Rows, processed_T: Mask | None) -> None:
    if processed_T is not None and not processed_T.all():
        score_P[~(processed_T[first_P] & processed_T[second_P])] = NO_MATCH
