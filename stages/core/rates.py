"""Error rates of comparisons: thresholds, ROC points, TAR at FAR by the strict rule and by the published one.

The published rule is that of AdaFace validation_mixed/insightface_ijb_helper/eval_helper.py at c60eaa78
(which has it from insightface): the point of scikit-learn's ROC nearest to the target, without interpolation.

Shapes: G genuine scores, I impostor scores. A pair matches when ``score >= threshold``; higher is more alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating[Any]]
Counts = NDArray[np.int64]

# far * count may fall below a whole number by rounding: 0.29 * 100 is 28.999999999999996
_ROUNDING = 1e-9


@dataclass(frozen=True)
class OperatingPoint:
    """One point of a ROC. Rates are fractions.

    ``target`` is the FMR asked for, ``fmr`` the one read, ``tar`` is 1 - FNMR there. ``threshold`` is the
    lowest score that still matches, infinite where nothing does.
    """

    target: float
    fmr: float
    tar: float
    threshold: float


def unresolved(num_impostor: int, fmr: float) -> str | None:
    """Return why so many impostor scores cannot resolve ``fmr``; None if they can: one error is at most it.

    >>> unresolved(600, 0.0001)
    'FMR 0.0001 needs 10000 impostor scores, got 600: add pairs or raise the target'
    >>> unresolved(1000, 0.001) is None
    True
    """
    if fmr <= 0 or fmr > 1:
        raise ValueError(f"a false match rate is a fraction in (0, 1], got {fmr}")
    if num_impostor * fmr >= 1 - _ROUNDING:
        return None
    needed = math.ceil(1 / fmr - _ROUNDING)
    return f"FMR {fmr:g} needs {needed} impostor scores, got {num_impostor}: add pairs or raise the target"


@dataclass(frozen=True)
class Rates:
    """TAR at each FAR the scores can resolve, by both rules, and why not at the others."""

    nearest: dict[float, OperatingPoint]
    strict: dict[float, OperatingPoint]
    unresolved: dict[float, str]


def read_rates(genuine_G: Scores, impostor_I: Scores, targets: Sequence[float]) -> Rates:
    """Return TAR at each FAR by the published rule (nearest ROC point) and the strict one (at most the FAR).

    A FAR that the scores cannot resolve gets a reason instead of a number.
    """
    reasons = {target: _why_not(genuine_G, impostor_I, target) for target in targets}
    resolved = [target for target, reason in reasons.items() if reason is None]
    nearest = nearest_points(genuine_G, impostor_I, resolved) if resolved else []
    strict = strict_points(genuine_G, impostor_I, resolved) if resolved else []
    return Rates(
        {point.target: point for point in nearest},
        {point.target: point for point in strict},
        {target: reason for target, reason in reasons.items() if reason is not None},
    )


def _why_not(genuine_G: Scores, impostor_I: Scores, target: float) -> str | None:
    return unresolved(impostor_I.size, target) if genuine_G.size else "there are no genuine pairs"


def threshold_at_fmr(impostor_I: Scores, fmr: float) -> float:
    """Return the lowest threshold whose false match rate is at most ``fmr``.

    Args:
        impostor_I: similarities; equal ones match or fail together, so with ties the rate may stay well below
            target.
        fmr: target, a fraction in (0, 1]: 1e-4, not 0.01 percent.

    Raises:
        ValueError: fewer than 1/fmr impostor scores, so the rate cannot be resolved.

    >>> threshold_at_fmr(np.array([0.4, 0.1, 0.3, 0.2]), fmr=0.25) > 0.3
    True
    """
    reason = unresolved(impostor_I.size, fmr)
    if reason:
        raise ValueError(reason)
    allowed = math.floor(fmr * impostor_I.size + _ROUNDING)
    if allowed >= impostor_I.size:
        return -math.inf
    highest_refused = -np.partition(-impostor_I, allowed)[allowed]
    return float(np.nextafter(highest_refused, np.array(np.inf, dtype=impostor_I.dtype)))


def strict_points(genuine_G: Scores, impostor_I: Scores, targets: Sequence[float]) -> list[OperatingPoint]:
    """Return for each target the point of largest TAR whose FMR is at most the target.

    Raises:
        ValueError: a target that the impostor scores cannot resolve, or no genuine scores.
    """
    _check(genuine_G, impostor_I)
    for target in targets:
        reason = unresolved(impostor_I.size, target)
        if reason:
            raise ValueError(reason)
    allowed = [math.floor(target * impostor_I.size + _ROUNDING) for target in targets]
    return [
        OperatingPoint(target, fmr, tar, threshold)
        for target, (fmr, tar, threshold) in zip(
            targets, _at_most(genuine_G, impostor_I, np.array(allowed, dtype=np.int64)), strict=True
        )
    ]


def nearest_points(genuine_G: Scores, impostor_I: Scores, targets: Sequence[float]) -> list[OperatingPoint]:
    """Return for each target the ROC point nearest in FMR; if two are as near, of larger FMR, then TAR.

    The points are those of ``sklearn.metrics.roc_curve`` with its default ``drop_intermediate``: one per
    distinct score, without those that lie evenly on a line between their neighbours, and (0, 0). As they may
    be far apart, the FMR read can exceed the target; ``OperatingPoint.fmr`` tells. Only the highest impostor
    scores are sorted.

    Raises:
        ValueError: no genuine or no impostor scores.
    """
    _check(genuine_G, impostor_I)
    num_top = 2 * math.ceil(max(targets) * impostor_I.size) + 64
    while True:
        fp_K, tp_K, score_K, complete = _roc_corners(genuine_G, impostor_I, num_top)
        # the nearest point is certain once a kept point beyond the last target has one of larger FMR after it
        beyond_K = fp_K[fp_K / impostor_I.size >= max(targets)]
        if complete or (beyond_K.size and beyond_K[-1] > beyond_K[0]):
            break
        num_top *= 4
    fmr_K, tar_K = fp_K / impostor_I.size, tp_K / genuine_G.size
    points = []
    for target in targets:
        away_K = np.abs(fmr_K - target)
        best = away_K.size - 1 - int(np.argmin(away_K[::-1]))
        points.append(OperatingPoint(target, float(fmr_K[best]), float(tar_K[best]), float(score_K[best])))
    return points


def roc(genuine_G: Scores, impostor_I: Scores, num_points: int = 200) -> list[OperatingPoint]:
    """Return at most ``num_points`` rising points of the ROC, evenly spread over the logarithm of the FMR.

    Each is the largest TAR for its number of false matches, from none to all; ``target`` is the FMR allowed.
    """
    _check(genuine_G, impostor_I)
    spread = np.geomspace(1, impostor_I.size, num_points - 1).round().astype(np.int64)
    allowed_K = np.unique(np.concatenate([[0], spread]))
    points: list[OperatingPoint] = []
    for allowed, (fmr, tar, threshold) in zip(allowed_K, _at_most(genuine_G, impostor_I, allowed_K), strict=True):
        if not points or (fmr, tar) != (points[-1].fmr, points[-1].tar):
            points.append(OperatingPoint(int(allowed) / impostor_I.size, fmr, tar, threshold))
    return points


def _check(genuine_G: Scores, impostor_I: Scores) -> None:
    if not genuine_G.size or not impostor_I.size:
        raise ValueError(f"rates need genuine and impostor scores, got {genuine_G.size} and {impostor_I.size}")
    if np.isnan(genuine_G).any() or np.isnan(impostor_I).any():
        raise ValueError("scores hold NaN: the embeddings are not finite")


def _at_most(genuine_G: Scores, impostor_I: Scores, allowed_K: Counts) -> list[tuple[float, float, float]]:
    """Return (fmr, tar, threshold) of the lowest threshold with at most so many false matches, by count."""
    inner_K = np.unique(allowed_K[allowed_K < impostor_I.size])
    falling_I = -np.partition(-impostor_I, inner_K) if inner_K.size else impostor_I
    rising_G = np.sort(genuine_G)
    points = []
    for allowed in allowed_K:
        if allowed >= impostor_I.size:
            points.append((1.0, 1.0, float(min(impostor_I.min(), rising_G[0]))))
            continue
        refused = falling_I[allowed]
        false = int(np.count_nonzero(falling_I[:allowed] > refused))
        true = genuine_G.size - int(np.searchsorted(rising_G, refused, side="right"))
        threshold = np.nextafter(refused, np.array(np.inf, dtype=impostor_I.dtype))
        points.append((false / impostor_I.size, true / genuine_G.size, float(threshold)))
    return points


def _roc_corners(genuine_G: Scores, impostor_I: Scores, num_top: int) -> tuple[Counts, Counts, Scores, bool]:
    """Return false and true matches and the score at scikit-learn's kept ROC points, from (0, 0) on.

    Only as many as the ``num_top`` highest impostor scores give; the last says whether that is all of them.
    """
    complete = num_top >= impostor_I.size
    if not complete:
        lowest = -np.partition(-impostor_I, num_top - 1)[num_top - 1]
        genuine_G, impostor_I = genuine_G[genuine_G >= lowest], impostor_I[impostor_I >= lowest]
    score_K = np.unique(np.concatenate([genuine_G, impostor_I]))[::-1]
    fp_K = impostor_I.size - np.searchsorted(np.sort(impostor_I), score_K, side="left")
    tp_K = genuine_G.size - np.searchsorted(np.sort(genuine_G), score_K, side="left")
    kept_K = np.ones(score_K.size, dtype=np.bool_)
    kept_K[1:-1] = (np.diff(fp_K, 2) != 0) | (np.diff(tp_K, 2) != 0)
    if not complete:
        kept_K[-1] = False  # whether it lies on a line shows only with its successor
    start = np.zeros(1, dtype=np.int64)
    return (
        np.concatenate([start, fp_K[kept_K]]),
        np.concatenate([start, tp_K[kept_K]]),
        np.concatenate([[np.inf], score_K[kept_K]]),
        complete,
    )
