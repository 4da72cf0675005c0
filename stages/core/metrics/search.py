"""Searches probes in a gallery without storing the score matrix: ranks of mates, highest impostor scores.

Scores are the float64 products of the embeddings given. A matrix product of lower precision over tiles that stay
in the cache sieves them; only what lies within its rounding error of a decision is computed again in float64, so
that no result depends on the precision, the tiles, the library or its threads.

Shapes: P probes, G gallery, D embedding dimensions, B probes of a tile, C gallery columns of a tile,
    M mated cells.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Embeddings = NDArray[np.floating[Any]]
Rows = NDArray[np.int64]
Floats = NDArray[np.float64]

_ROWS, _COLUMNS = 256, 2048
_MANY_CELLS = 2**22


@dataclass(frozen=True)
class Found:
    """Search results per probe.

    ``mate_score_P`` is the score of the best mate, -inf where there is none; ``ahead_P`` how many non-mates
    are as similar as that or more; ``highest_K`` the highest scores of all non-mate cells, falling.
    """

    mate_score_P: Floats
    ahead_P: Rows
    highest_K: Floats


def search(
    probe_PD: Embeddings,
    gallery_GD: Embeddings,
    low_P: Rows,
    high_P: Rows,
    num_highest: int = 0,
    tick: Callable[[int], None] = lambda count: None,
) -> Found:
    """Compare every probe with every gallery row.

    Args:
        probe_PD: unit length or zero.
        gallery_GD: unit length or zero; the mates of a probe stand side by side.
        low_P: first row of each probe's mates.
        high_P: one past the last; the same as ``low_P`` for a probe without mates.
        num_highest: how many of the highest scores between non-mates to keep.
        tick: called with a number of probes each time so many more are done.
    """
    sieve = _Sieve(probe_PD, gallery_GD)
    best_P = _best_mates(probe_PD, gallery_GD, low_P, high_P)
    ahead_P = np.zeros(len(probe_PD), dtype=np.int64)
    highest = _Highest(probe_PD, gallery_GD, num_highest)
    for top in range(0, len(probe_PD), _ROWS):
        rows = slice(top, top + _ROWS)
        best_B = best_P[rows]
        for left in range(0, len(gallery_GD), _COLUMNS):
            score_BC = sieve.tile(rows, slice(left, left + _COLUMNS))
            _blank(score_BC, low_P[rows] - left, high_P[rows] - left)
            ahead_P[rows] += _ahead(score_BC, best_B, sieve.error, (probe_PD, gallery_GD, top, left))
            highest.offer(score_BC, top, left, sieve.error)
        tick(best_B.size)
    return Found(best_P, ahead_P, highest.exact())


class _Sieve:
    """Tiles of the score matrix in float32, or in bfloat16 on a CPU that multiplies it several times as fast."""

    def __init__(self, probe_PD: Embeddings, gallery_GD: Embeddings) -> None:
        dim = probe_PD.shape[1]
        self.coarse = len(probe_PD) * len(gallery_GD) >= _MANY_CELLS and fast_bfloat16()
        self.error = rounding_error(dim)
        self.probe_PD, self.gallery_GD = (
            torch.from_numpy(np.ascontiguousarray(side, np.float32)) for side in (probe_PD, gallery_GD)
        )
        if self.coarse:
            self.probe_PD, self.gallery_GD = self.probe_PD.bfloat16(), self.gallery_GD.bfloat16()
            # both factors and the result are rounded to 8 bits, half a unit in the last place each
            self.error += (1 + 2.0**-9) ** 3 - 1

    def tile(self, rows: slice, columns: slice) -> NDArray[np.float32]:
        if self.coarse:
            product = (self.probe_PD[rows] @ self.gallery_GD[columns].T).float()
            coarse_BC: NDArray[np.float32] = product.numpy()
            return coarse_BC
        # numpy's library is the faster one in float32
        fine_BC: NDArray[np.float32] = self.probe_PD[rows].numpy() @ self.gallery_GD[columns].numpy().T
        return fine_BC


def fast_bfloat16() -> bool:
    """Return whether this CPU has instructions to multiply bfloat16."""
    return bool(torch.cpu._is_avx512_bf16_supported())


def rounding_error(dim: int) -> float:
    """Return a bound on the error of a float32 product of two unit vectors, in any order of summing.

    Higham, Accuracy and Stability of Numerical Algorithms, eq. 3.5, and one rounding of each input.
    """
    unit = 2.0**-24
    return (dim + 2) * unit / (1 - (dim + 2) * unit) + 4 * unit


def _best_mates(probe_PD: Embeddings, gallery_GD: Embeddings, low_P: Rows, high_P: Rows) -> Floats:
    best_P = np.full(len(probe_PD), -np.inf)
    count_P = high_P - low_P
    probe_M = np.repeat(np.arange(len(probe_PD)), count_P)
    if not probe_M.size:
        return best_P
    start_P = np.cumsum(count_P) - count_P
    mate_M = np.arange(probe_M.size) - np.repeat(start_P - low_P, count_P)
    score_M = products(probe_PD, gallery_GD, probe_M, mate_M)
    mated_P = count_P > 0
    best_P[mated_P] = np.maximum.reduceat(score_M, start_P[mated_P])
    return best_P


def products(
    left_PD: Embeddings, right_GD: Embeddings, row_M: NDArray[np.integer[Any]], column_M: NDArray[np.integer[Any]]
) -> Floats:
    """Return the float64 product of each listed pair of rows; the same pair always gives the same bits."""
    score_M = np.empty(row_M.size)
    step = max(1, 2**20 // max(1, left_PD.shape[1]))
    for begin in range(0, row_M.size, step):
        part = slice(begin, begin + step)
        left = np.asarray(left_PD[row_M[part]], dtype=np.float64)
        np.sum(np.multiply(left, right_GD[column_M[part]], out=left), axis=1, out=score_M[part])
    return score_M


def _blank(score_BC: NDArray[np.float32], low_B: Rows, high_B: Rows) -> None:
    """Remove the mates of each row from the tile."""
    low_B, high_B = np.maximum(low_B, 0), np.minimum(high_B, score_BC.shape[1])
    for row in np.flatnonzero(low_B < high_B):
        score_BC[row, low_B[row] : high_B[row]] = -np.inf


def _ahead(
    score_BC: NDArray[np.float32], best_B: Floats, error: float, where: tuple[Embeddings, Embeddings, int, int]
) -> Rows:
    """Count the cells of each row that are at least as similar as its best mate."""
    # a probe without mates has nobody ahead: -inf would count every cell
    certain_B = np.where(np.isfinite(best_B), best_B + error, np.inf).astype(np.float32)
    possible_B = np.where(np.isfinite(best_B), best_B - error, np.inf).astype(np.float32)
    count_B = np.count_nonzero(score_BC > np.nextafter(certain_B, np.float32(np.inf))[:, np.newaxis], axis=1)
    most_B = np.count_nonzero(score_BC >= np.nextafter(possible_B, np.float32(-np.inf))[:, np.newaxis], axis=1)
    doubtful = np.flatnonzero((most_B > count_B) & np.isfinite(best_B))
    if doubtful.size:
        _settle(score_BC, best_B, (certain_B, possible_B), doubtful, count_B, where)
    ahead_B: Rows = count_B.astype(np.int64)
    return ahead_B


def _settle(
    score_BC: NDArray[np.float32],
    best_B: Floats,
    bounds: tuple[NDArray[np.float32], NDArray[np.float32]],
    doubtful: Rows,
    count_B: NDArray[Any],
    where: tuple[Embeddings, Embeddings, int, int],
) -> None:
    """Recompute in float64 the cells that rounding could put on either side; add those that are ahead."""
    probe_PD, gallery_GD, top, left = where
    upper_E1 = np.nextafter(bounds[0][doubtful], np.float32(np.inf))[:, np.newaxis]
    lower_E1 = np.nextafter(bounds[1][doubtful], np.float32(-np.inf))[:, np.newaxis]
    score_EC = score_BC[doubtful]
    row_M, column_M = np.nonzero((score_EC >= lower_E1) & (score_EC <= upper_E1))
    exact_M = products(probe_PD, gallery_GD, doubtful[row_M] + top, column_M + left)
    is_ahead_M = exact_M >= best_B[doubtful[row_M]]
    np.add.at(count_B, doubtful[row_M[is_ahead_M]], 1)


class _Highest:
    """Keeps the cells of the highest scores so far, and a few more than requested."""

    def __init__(self, probe_PD: Embeddings, gallery_GD: Embeddings, num: int) -> None:
        self.probe_PD, self.gallery_GD, self.num = probe_PD, gallery_GD, num
        self.row_K = np.zeros(0, dtype=np.int64)
        self.column_K = np.zeros(0, dtype=np.int64)
        self.score_K = np.zeros(0, dtype=np.float32)
        self.floor = -math.inf

    def offer(self, score_BC: NDArray[np.float32], top: int, left: int, error: float) -> None:
        if not self.num:
            return
        floor = np.float32(self.floor)
        cell_K = np.flatnonzero(score_BC.ravel() > floor)
        if not cell_K.size:
            return
        row_K, column_K = np.divmod(cell_K, score_BC.shape[1])
        self.score_K = np.concatenate([self.score_K, score_BC.ravel()[cell_K]])
        self.row_K = np.concatenate([self.row_K, row_K + top])
        self.column_K = np.concatenate([self.column_K, column_K + left])
        if self.score_K.size > 2 * self.num:
            self._thin(error)

    def _thin(self, error: float) -> None:
        last = self.score_K.size - self.num
        floor = float(np.partition(self.score_K, last)[last])
        # both this score and that of a cell below it may be off by `error`
        self.floor = np.nextafter(np.float32(floor - 2 * error), np.float32(-np.inf))
        kept_K = self.score_K > self.floor
        self.score_K, self.row_K, self.column_K = (
            self.score_K[kept_K], self.row_K[kept_K], self.column_K[kept_K]
        )  # fmt: skip

    def exact(self) -> Floats:
        real_K = np.isfinite(self.score_K)
        score_K = products(self.probe_PD, self.gallery_GD, self.row_K[real_K], self.column_K[real_K])
        return np.sort(score_K)[::-1][: self.num]
