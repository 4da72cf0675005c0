"""IJB-S: surveillance, multi-view and UAV probes against single, booking and surveillance galleries.

As AdaFace validation_lq/PFE/ijbs.py and validation_lq/evaluate_helper.py at c60eaa78: a template is the mean of
its faces' features; ranks are read in both galleries together; the open set in each of the two, then averaged.

Shapes: N faces, K memberships of a face in a template, T templates, D feature dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from stages.core.errors import InputError
from stages.core.metrics.identify import ClosedSet, OpenSet, closed_set, open_set

VERSION = "1"
RANKS = (1, 5, 10)
FPIRS = (0.01, 0.1)

Features = NDArray[np.floating[Any]]
Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Templates:
    """Unit embeddings of the templates, their subjects, and which have any processed face."""

    embedding_TD: Floats
    subject_T: Ids
    filled_T: Mask


@dataclass(frozen=True)
class Searched:
    """Result of one protocol: closed set over both galleries, open set in each; None with a reason if missing."""

    closed: ClosedSet
    open_sets: tuple[OpenSet | None, OpenSet | None]
    reasons: tuple[str | None, str | None]

    def tpir(self, fpir: float) -> float | None:
        """Return the mean of both galleries' TPIR, as published."""
        found = [one.tpir[fpir] for one in self.open_sets if one is not None]
        return float(np.mean(found)) if len(found) == 2 else None


def pool(
    feature_ND: Features, face_K: Ids, template_K: Ids, subject_T: Ids, processed_N: Mask | None = None
) -> Templates:
    """Return each template's mean feature at unit length; zero without any processed face.

    Args:
        feature_ND: as they are to be added: their length is their weight (published: the feature norm).
        face_K: face of each membership.
        template_K: template of each.
        subject_T: who a template shows.
        processed_N: False for faces that could not be processed; they are left out.
    """
    used_K = np.ones(face_K.size, np.bool_) if processed_N is None else processed_N[face_K]
    face_U, template_U = face_K[used_K], template_K[used_K]
    count_T = np.bincount(template_U, minlength=subject_T.size)
    weight_U = 1.0 / count_T[template_U]
    weights = scipy.sparse.csr_array(
        (weight_U.astype(feature_ND.dtype), (template_U, face_U)), shape=(subject_T.size, len(feature_ND))
    )
    mean_TD = (weights @ feature_ND).astype(np.float64)
    norm_T1 = np.linalg.norm(mean_TD, axis=1, keepdims=True)
    np.divide(mean_TD, norm_T1, out=mean_TD, where=norm_T1 > 0)
    return Templates(mean_TD, subject_T, count_T > 0)


def search(templates: Templates, probe_P: Ids, gallery1_G: Ids, gallery2_G: Ids) -> Searched:
    """Run one of the five protocols, given the rows of its probes and of its two galleries.

    Probes whose subject is in neither gallery are left out of the ranks and counted; in each open set those
    without a mate in that gallery set the threshold. Empty templates are never found and raise no alarm
    (published: their zero vector scores 0 with everyone).

    Raises:
        ValueError: no probe has a mate, or a subject is in the galleries twice.
    """
    both_G = np.concatenate([gallery1_G, gallery2_G])
    subject_U, count_U = np.unique(templates.subject_T[both_G], return_counts=True)
    if (count_U > 1).any():
        twice = subject_U[count_U > 1][0]
        raise InputError(f"a subject is in one gallery, once; {twice} is there {count_U.max()} times")
    closed = closed_set(*_sides(templates, probe_P, both_G))
    found = [_open(templates, probe_P, rows_G) for rows_G in (gallery1_G, gallery2_G)]
    return Searched(closed, (found[0][0], found[1][0]), (found[0][1], found[1][1]))


def _open(templates: Templates, probe_P: Ids, gallery_G: Ids) -> tuple[OpenSet | None, str | None]:
    mated_P = np.isin(templates.subject_T[probe_P], templates.subject_T[gallery_G])
    if mated_P.all() or not mated_P.any():
        return None, f"open set needs probes with and without a mate, got {mated_P.sum()} and {(~mated_P).sum()}"
    probe_PD, subject_P, gallery_GD, subject_G, filled_P, filled_G = _sides(templates, probe_P, gallery_G)
    opened = open_set(
        probe_PD, subject_P, gallery_GD, subject_G, FPIRS, probe_processed_P=filled_P, gallery_processed_G=filled_G
    )
    return opened, "; ".join(opened.unresolved.values()) or None


def _sides(
    templates: Templates, probe_P: Ids, gallery_G: Ids
) -> tuple[Floats, Ids, Floats, Ids, Mask, Mask]:
    return (
        templates.embedding_TD[probe_P], templates.subject_T[probe_P],
        templates.embedding_TD[gallery_G], templates.subject_T[gallery_G],
        templates.filled_T[probe_P], templates.filled_T[gallery_G],
    )  # fmt: skip


def summary(searched: Searched, ranks: Sequence[int] = RANKS) -> dict[str, float]:
    """Return the metrics of one protocol by their short names: ``rank1``, ``tpir_fpir1e-02``."""
    metrics = {f"rank{rank}": searched.closed.rate(rank) for rank in ranks}
    for fpir in FPIRS:
        value = searched.tpir(fpir)
        if value is not None:
            metrics[f"tpir_fpir{fpir:.0e}"] = value
    return metrics
