"""Cosine similarities of listed pairs of templates, by matrix products over blocks instead of pair by pair.

Shapes: T templates, P pairs, D embedding dimensions.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Embeddings = NDArray[np.float64]
Rows = NDArray[np.integer[Any]]
Mask = NDArray[np.bool_]

# of a template or image that could not be processed: it matches nobody at any threshold
NO_MATCH = -1.0

_ROWS = 256
# below this share of used cells a product computes more than gathering would
_DENSE = 1 / 24
_GATHER = 8192


def pair_scores(
    embedding_TD: Embeddings,
    first_P: Rows,
    second_P: Rows,
    processed_T: Mask | None = None,
    tick: Callable[[int], None] = lambda count: None,
) -> NDArray[np.float64]:
    """Return the dot product of each pair of rows, in the pairs' order; float64 as in the published scripts.

    The products are done in the order of ``first_P`` whatever the order of the list, so that a pair's score
    does not depend on where it stands.

    Args:
        embedding_TD: unit length, so that the products are cosines.
        first_P: row of the first template of each pair.
        second_P: row of the second.
        processed_T: False for templates without any processed image; their pairs score ``NO_MATCH``.
        tick: called with a number of pairs each time so many more are done.
    """
    score_P = np.empty(first_P.size, dtype=np.float64)
    in_order = bool(np.all(first_P[:-1] <= first_P[1:]))
    order_P = None if in_order else np.argsort(first_P, kind="stable")
    sorted_first_P, sorted_second_P = (first_P, second_P) if order_P is None else (first_P[order_P], second_P[order_P])
    bounds = np.searchsorted(sorted_first_P, np.arange(0, len(embedding_TD) + _ROWS, _ROWS))
    for begin, end in itertools.pairwise(bounds):
        if begin == end:
            continue
        block = slice(begin, end)
        where = block if order_P is None else order_P[block]
        score_P[where] = _block(embedding_TD, sorted_first_P[block], sorted_second_P[block])
        tick(int(end - begin))
    if processed_T is not None and not processed_T.all():
        score_P[~(processed_T[first_P] & processed_T[second_P])] = NO_MATCH
    return score_P


def _block(embedding_TD: Embeddings, first_B: Rows, second_B: Rows) -> NDArray[np.float64]:
    used = np.zeros(len(embedding_TD), dtype=np.bool_)
    used[second_B] = True
    columns = np.flatnonzero(used)
    low, high = int(first_B[0]), int(first_B[-1]) + 1
    if first_B.size < _DENSE * (high - low) * columns.size:
        return _gather(embedding_TD, first_B, second_B)
    column_of = np.empty(len(embedding_TD), dtype=np.int64)
    column_of[columns] = np.arange(columns.size)
    product = embedding_TD[low:high] @ embedding_TD[columns].T
    picked: NDArray[np.float64] = product[first_B - low, column_of[second_B]]
    return picked


def _gather(embedding_TD: Embeddings, first_B: Rows, second_B: Rows) -> NDArray[np.float64]:
    score_B = np.empty(first_B.size)
    for begin in range(0, first_B.size, _GATHER):
        part = slice(begin, begin + _GATHER)
        score_B[part] = np.einsum("bd,bd->b", embedding_TD[first_B[part]], embedding_TD[second_B[part]])
    return score_B
