"""Closed-set identification: is a mate among the k most similar gallery images (TinyFace, SCface).

As AdaFace validation_lq/tinyface_helper.py (DIR_FAR with one gallery) at c60eaa78, but with a stated rule for
ties.

Shapes: P probes, G gallery images, D embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

VERSION = "1"
NOBODY = -100  # label of a distractor

Embeddings = NDArray[np.floating[Any]]
Labels = NDArray[np.int64]
Mask = NDArray[np.bool_]

_ROWS = 128


@dataclass(frozen=True)
class ClosedSet:
    """Rank, from 1, of the best mate of each probe that has one; 0: no processed image, so never found."""

    rank_P: Labels
    num_without_mate: int

    def rate(self, rank: int) -> float:
        """Return the share of probes with a mate among the ``rank`` most similar."""
        return float(np.count_nonzero((self.rank_P >= 1) & (self.rank_P <= rank)) / self.rank_P.size)

    def rates(self, ranks: Sequence[int]) -> list[float]:
        """Return the cumulative match characteristic at ``ranks``."""
        return [self.rate(rank) for rank in ranks]


def closed_set(
    probe_PD: Embeddings,
    probe_label_P: Labels,
    gallery_GD: Embeddings,
    gallery_label_G: Labels,
    probe_processed_P: Mask | None = None,
    gallery_processed_G: Mask | None = None,
    tick: Callable[[int], None] = lambda count: None,
) -> ClosedSet:
    """Return the rank of each probe's best mate: one more than the non-mates that are as similar or more.

    So a tie goes against the mate, and embeddings that have collapsed to one point find nobody. Several
    gallery images may show one subject: the best counts, and the others do not stand before it. The score
    matrix never exists whole.

    Args:
        probe_PD: unit length.
        probe_label_P: subject of each probe.
        gallery_GD: unit length.
        gallery_label_G: subject of each gallery image, ``NOBODY`` for distractors.
        probe_processed_P: False for probes that could not be processed: they count as never found.
        gallery_processed_G: False for gallery images that could not be processed: nobody is similar to them.
            A probe whose mates all failed counts as never found: it has mates.
        tick: called with a number of probes each time so many more are done.

    Raises:
        ValueError: no probe has a mate, or the lengths differ.
    """
    if len(probe_PD) != probe_label_P.size or len(gallery_GD) != gallery_label_G.size:
        raise ValueError(
            f"every image needs a label, got {len(probe_PD)} probes with {probe_label_P.size}, "
            f"{len(gallery_GD)} gallery images with {gallery_label_G.size}"
        )
    mated_P = np.isin(probe_label_P, gallery_label_G[gallery_label_G != NOBODY])
    if not mated_P.any():
        raise ValueError(f"none of {probe_label_P.size} probes has a mate among {gallery_label_G.size} gallery images")
    usable_G = np.ones(gallery_label_G.size, dtype=np.bool_) if gallery_processed_G is None else gallery_processed_G
    usable_P = np.ones(probe_label_P.size, dtype=np.bool_) if probe_processed_P is None else probe_processed_P
    order_G = np.argsort(gallery_label_G[usable_G], kind="stable")
    label_G = gallery_label_G[usable_G][order_G]
    rank_P = np.zeros(probe_label_P.size, dtype=np.int64)
    searched_S = np.flatnonzero(mated_P & usable_P & np.isin(probe_label_P, label_G))
    transposed_DG = np.ascontiguousarray(gallery_GD[usable_G][order_G]).T
    for begin in range(0, searched_S.size, _ROWS):
        rows_B = searched_S[begin : begin + _ROWS]
        label_B = probe_label_P[rows_B]
        low_B, high_B = np.searchsorted(label_G, label_B, "left"), np.searchsorted(label_G, label_B, "right")
        rank_P[rows_B] = _ranks(probe_PD[rows_B] @ transposed_DG, low_B, high_B)
        tick(rows_B.size)
    return ClosedSet(rank_P[mated_P], int(np.count_nonzero(~mated_P)))


def _ranks(score_BG: Embeddings, low_B: Labels, high_B: Labels) -> Labels:
    """Return the rank of the best of each row's own stretch of columns among the other columns."""
    rank_B = np.empty(len(score_BG), dtype=np.int64)
    for row, (score_G, low, high) in enumerate(zip(score_BG, low_B, high_B, strict=True)):
        mates = score_G[low:high]
        best = mates.max()
        as_similar = np.count_nonzero(score_G >= best) - np.count_nonzero(mates >= best)
        rank_B[row] = 1 + as_similar
    return rank_B
