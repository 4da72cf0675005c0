"""Closed- and open-set identification (TinyFace, IJB-S): is a mate among the k most similar, and above a threshold.

As AdaFace validation_lq/tinyface_helper.py and validation_lq/PFE/ijbs.py (DIR_FAR) at c60eaa78, but with a
stated rule for ties: they go against the mate.

Shapes: P probes, G gallery images, D embedding dimensions, U probes without a mate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import InputError
from stages.core.metrics.search import search

NOBODY = -100  # label of a distractor

Embeddings = NDArray[np.floating[Any]]
Labels = NDArray[np.int64]
Mask = NDArray[np.bool_]
Rounding = Literal["down", "nearest"]

_EPSILON: dict[Rounding, float] = {"down": 1e-8, "nearest": 1e-5}  # of ijbs.py and tinyface_helper.py


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
    probes = _Side.of("probes", probe_PD, probe_label_P, probe_processed_P)
    gallery = _Side.of("gallery images", gallery_GD, gallery_label_G, gallery_processed_G)
    mated_P = probes.mated_in(gallery)
    if not mated_P.any():
        raise InputError(f"none of {probe_label_P.size} probes has a mate among {gallery_label_G.size} gallery images")
    rank_P, _ = _ranks(probes, gallery, mated_P, tick)
    return ClosedSet(rank_P[mated_P], int(np.count_nonzero(~mated_P)))


@dataclass(frozen=True)
class OpenSet:
    """True positive identification rate (fraction) at each false positive rate, with thresholds and counts.

    ``tpir`` and ``threshold`` are by target; ``fpir`` is the rate the threshold really gives.
    """

    tpir: dict[float, float]
    fpir: dict[float, float]
    threshold: dict[float, float]
    num_mated: int
    num_non_mated: int
    unresolved: dict[float, str]


def open_set(
    probe_PD: Embeddings,
    probe_label_P: Labels,
    gallery_GD: Embeddings,
    gallery_label_G: Labels,
    fpirs: Sequence[float],
    *,
    rank: int = 1,
    rounding: Rounding = "down",
    probe_processed_P: Mask | None = None,
    gallery_processed_G: Mask | None = None,
) -> OpenSet:
    """Return the share of mated probes found within ``rank`` and at or above the threshold of each FPIR.

    The threshold is the n-th largest of the non-mated probes' highest scores, n = FPIR times their number,
    rounded as said (IJB-S: down, TinyFace's script: to the nearest, half to even); if n is 0 it lies just
    above the largest, and ``unresolved`` says so. A mate at the threshold counts. Non-mated probes that could
    not be processed raise no alarm; mated ones, and those whose mates failed, are never found.

    Args:
        probe_PD: unit length.
        probe_label_P: subject of each probe; those without a mate in the gallery are the non-mated probes.
        gallery_GD: unit length.
        gallery_label_G: subject of each gallery entry.
        fpirs: targets, fractions.
        rank: a mate must be among this many.
        rounding: of the number of false alarms.
        probe_processed_P: False for probes that could not be processed.
        gallery_processed_G: the same of the gallery.

    Raises:
        ValueError: lengths differ, or there are no mated or no non-mated probes.
    """
    probes = _Side.of("probes", probe_PD, probe_label_P, probe_processed_P)
    gallery = _Side.of("gallery images", gallery_GD, gallery_label_G, gallery_processed_G)
    mated_P = probes.mated_in(gallery)
    if mated_P.all() or not mated_P.any():
        raise InputError(
            f"open-set identification needs probes with and without a mate, got {int(mated_P.sum())} and "
            f"{int((~mated_P).sum())}"
        )
    rank_P, score_P = _ranks(probes, gallery, mated_P)
    in_rank_P = (rank_P >= 1) & (rank_P <= rank)
    falling_U = _highest_scores(probes, gallery, ~mated_P)
    tpir, fpir, thresholds, reasons = {}, {}, {}, {}
    for target in fpirs:
        wanted = target * falling_U.size
        num = int(wanted) if rounding == "down" else int(np.round(wanted))
        if num == 0:
            needed = int(np.ceil((1 if rounding == "down" else 0.5) / target))
            reasons[target] = (
                f"FPIR {target:g} needs {needed} probes without a mate, got {falling_U.size}: read with no false alarm"
            )
        thresholds[target] = float(falling_U[num - 1] if num else falling_U[0] + _EPSILON[rounding])
        tpir[target] = float(np.mean(in_rank_P[mated_P] & (score_P[mated_P] >= thresholds[target])))
        fpir[target] = float(np.mean(falling_U >= thresholds[target]))
    return OpenSet(tpir, fpir, thresholds, int(mated_P.sum()), falling_U.size, reasons)


@dataclass(frozen=True)
class _Side:
    """Probes or gallery: embeddings, labels and which images were processed."""

    embedding_ND: Embeddings
    label_N: Labels
    processed_N: Mask

    @classmethod
    def of(cls, what: str, embedding_ND: Embeddings, label_N: Labels, processed_N: Mask | None) -> _Side:
        if len(embedding_ND) != label_N.size:
            raise InputError(f"every image needs a label, got {len(embedding_ND)} {what} with {label_N.size}")
        return cls(embedding_ND, label_N, np.ones(label_N.size, np.bool_) if processed_N is None else processed_N)

    def mated_in(self, gallery: _Side) -> Mask:
        return np.isin(self.label_N, gallery.label_N[gallery.label_N != NOBODY])


def _ranks(
    probes: _Side, gallery: _Side, mated_P: Mask, tick: Callable[[int], None] = lambda count: None
) -> tuple[Labels, NDArray[np.float64]]:
    """Return rank of the best mate, 0 if never found, and its score, -inf then."""
    usable_G = np.flatnonzero(gallery.processed_N)
    order_G = usable_G[np.argsort(gallery.label_N[usable_G], kind="stable")]
    label_G = gallery.label_N[order_G]
    rank_P = np.zeros(probes.label_N.size, dtype=np.int64)
    score_P = np.full(probes.label_N.size, -np.inf)
    searched_S = np.flatnonzero(mated_P & probes.processed_N & np.isin(probes.label_N, label_G))
    low_S = np.searchsorted(label_G, probes.label_N[searched_S], "left")
    high_S = np.searchsorted(label_G, probes.label_N[searched_S], "right")
    found = search(probes.embedding_ND[searched_S], gallery.embedding_ND[order_G], low_S, high_S, tick=tick)
    rank_P[searched_S] = 1 + found.ahead_P
    score_P[searched_S] = found.mate_score_P
    return rank_P, score_P


def _highest_scores(probes: _Side, gallery: _Side, chosen_P: Mask) -> NDArray[np.float64]:
    """Return the highest score of each chosen probe, falling; -inf for those that could not be processed."""
    rows_U = np.flatnonzero(chosen_P & probes.processed_N)
    transposed_DG = gallery.embedding_ND[gallery.processed_N].astype(np.float64).T
    score_U = np.full(int(chosen_P.sum()), -np.inf)
    for begin in range(0, rows_U.size if transposed_DG.size else 0, 128):
        part = rows_U[begin : begin + 128]
        score_U[begin : begin + part.size] = (probes.embedding_ND[part].astype(np.float64) @ transposed_DG).max(axis=1)
    return np.sort(score_U)[::-1]
