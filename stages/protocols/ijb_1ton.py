"""IJB-B and IJB-C 1:N identification of mixed probes in both galleries, as AdaFace publishes it.

As AdaFace validation_mixed/insightface_ijb_helper/eval_helper_identification.py at c60eaa78: one gallery of
both sets' templates, one template per subject. Its TPIR at FPIR is not the open-set search of NIST's protocol:
every probe has a mate, and the threshold is the n-th largest of all impostor scores, n = FPIR times the number
of probes, rounded up. ``identification.open_set`` on each gallery is the other rule.

Shapes: P probes, G gallery templates, D embedding dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import InputError
from stages.core.metrics.search import search

VERSION = "1"
RANKS = (1, 5, 10)
FPIRS = (0.01, 0.1)

Embeddings = NDArray[np.floating[Any]]
Ids = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Identified:
    """Ranks, from 1, of the mates of the probes that have one; 0: probe or mate has no processed image."""

    rank_P: Ids
    tpir: dict[float, float]
    threshold: dict[float, float]
    num_without_mate: int

    def rate(self, rank: int) -> float:
        """Return the share of mated probes whose mate is among the ``rank`` most similar."""
        return float(np.count_nonzero((self.rank_P >= 1) & (self.rank_P <= rank)) / self.rank_P.size)


def identify(
    probe_PD: Embeddings,
    probe_subject_P: Ids,
    gallery_GD: Embeddings,
    gallery_subject_G: Ids,
    probe_filled_P: Mask | None = None,
    gallery_filled_G: Mask | None = None,
    fpirs: Sequence[float] = FPIRS,
    tick: Callable[[int], None] = lambda count: None,
) -> Identified:
    """Search every mated probe in the whole gallery.

    A tie goes against the mate (published: whatever an unstable sort makes of it); a mate's score must be
    strictly above the threshold. Probes whose subject is not in the gallery are counted and left out
    (published: the script stops).

    Args:
        probe_PD: unit length, one row per probe template.
        probe_subject_P: who it is.
        gallery_GD: unit length, both galleries.
        gallery_subject_G: who it is, each subject once.
        probe_filled_P: False for templates without any processed image: never found, and their scores are in
            no threshold.
        gallery_filled_G: the same of the gallery.
        fpirs: targets, fractions.
        tick: called with a number of probes each time so many more are done.

    Raises:
        ValueError: a subject has two gallery templates, lengths differ, or no probe has a mate.
    """
    if len(probe_PD) != probe_subject_P.size or len(gallery_GD) != gallery_subject_G.size:
        raise InputError(
            f"every template needs a subject, got {len(probe_PD)} probes with {probe_subject_P.size}, "
            f"{len(gallery_GD)} gallery templates with {gallery_subject_G.size}"
        )
    subject_U, count_U = np.unique(gallery_subject_G, return_counts=True)
    if (count_U > 1).any():
        raise InputError(f"a subject has one gallery template, {subject_U[count_U > 1][0]} has {count_U.max()}")
    mated_P = np.isin(probe_subject_P, gallery_subject_G)
    if not mated_P.any():
        raise InputError(f"none of {probe_subject_P.size} probes has a mate in the gallery")
    usable_P = mated_P & (np.ones_like(mated_P) if probe_filled_P is None else probe_filled_P)
    usable_G = np.ones(gallery_subject_G.size, np.bool_) if gallery_filled_G is None else gallery_filled_G
    order_G = np.flatnonzero(usable_G)[np.argsort(gallery_subject_G[usable_G], kind="stable")]
    subject_G, subject_S = gallery_subject_G[order_G], probe_subject_P[usable_P]
    low_S, high_S = np.searchsorted(subject_G, subject_S, "left"), np.searchsorted(subject_G, subject_S, "right")
    # of all mated probes, processed or not: failures must not make the threshold easier
    allowed = {fpir: math.ceil(int(mated_P.sum()) * fpir) for fpir in fpirs}
    found = search(probe_PD[usable_P], gallery_GD[order_G], low_S, high_S, max(allowed.values()), tick)
    rank_P = np.zeros(probe_subject_P.size, dtype=np.int64)
    rank_P[usable_P] = np.where(low_S < high_S, 1 + found.ahead_P, 0)
    threshold = {
        fpir: float(found.highest_K[num - 1]) if num <= found.highest_K.size else -math.inf
        for fpir, num in allowed.items()
    }
    tpir = {
        fpir: float(np.count_nonzero(found.mate_score_P > value) / mated_P.sum()) for fpir, value in threshold.items()
    }
    return Identified(rank_P[mated_P], tpir, threshold, int(np.count_nonzero(~mated_P)))
