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

from stages.core.errors import InputError
from stages.core.metrics.ranking import Falling, Stretch

Scores = NDArray[np.floating[Any]]
Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
# impostor scores as they are, or prepared once for several questions
Impostors = Scores | Falling

# far * count may fall below a whole number by rounding: 0.29 * 100 is 28.999999999999996
_ROUNDING = 1e-9
# ranks; of scores that are to be made exact, shorter stretches are taken whole, longer ones around their corners only
_SHORT, _BESIDE = 4096, 3


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
    """Return why this many impostor scores cannot resolve ``fmr``; None if they can: one error is at most it.

    >>> unresolved(600, 0.0001)
    'FMR 0.0001 needs 10000 impostor scores, got 600: add pairs or raise the target'
    >>> unresolved(1000, 0.001) is None
    True
    """
    if fmr <= 0 or fmr > 1:
        raise InputError(f"a false match rate is a fraction in (0, 1], got {fmr}")
    if num_impostor * fmr >= 1 - _ROUNDING:
        return None
    needed = math.ceil(1 / fmr - _ROUNDING)
    return f"FMR {fmr:g} needs {needed} impostor scores, got {num_impostor}: add pairs or raise the target"


@dataclass(frozen=True)
class Rates:
    """TAR at each FAR that the scores can resolve, by both rules, and the reasons for the others."""

    nearest: dict[float, OperatingPoint]
    strict: dict[float, OperatingPoint]
    unresolved: dict[float, str]


def read_rates(genuine_G: Scores, impostors: Impostors, targets: Sequence[float]) -> Rates:
    """Return TAR at each FAR by the published rule (nearest ROC point) and the strict one (at most the FAR).

    A FAR that the scores cannot resolve gets a reason instead of a number.
    """
    if genuine_G.size and impostors.size and not isinstance(impostors, Falling):
        impostors = _falling(genuine_G, impostors)
    reasons = {target: _why_not(genuine_G, impostors.size, target) for target in targets}
    resolved = [target for target, reason in reasons.items() if reason is None]
    nearest = nearest_points(genuine_G, impostors, resolved) if resolved else []
    strict = strict_points(genuine_G, impostors, resolved) if resolved else []
    return Rates(
        {point.target: point for point in nearest},
        {point.target: point for point in strict},
        {target: reason for target, reason in reasons.items() if reason is not None},
    )


def _why_not(genuine_G: Scores, num_impostor: int, target: float) -> str | None:
    return unresolved(num_impostor, target) if genuine_G.size else "there are no genuine pairs"


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
        raise InputError(reason)
    allowed = math.floor(fmr * impostor_I.size + _ROUNDING)
    if allowed >= impostor_I.size:
        return -math.inf
    highest_refused = -np.partition(-impostor_I, allowed)[allowed]
    return float(np.nextafter(highest_refused, np.array(np.inf, dtype=impostor_I.dtype)))


def strict_points(genuine_G: Scores, impostors: Impostors, targets: Sequence[float]) -> list[OperatingPoint]:
    """Return for each target the point of largest TAR whose FMR is at most the target.

    Raises:
        ValueError: a target that the impostor scores cannot resolve, or no genuine scores.
    """
    falling = _falling(genuine_G, impostors)
    for target in targets:
        reason = unresolved(falling.size, target)
        if reason:
            raise InputError(reason)
    allowed = [math.floor(target * falling.size + _ROUNDING) for target in targets]
    return [
        OperatingPoint(target, fmr, tar, threshold)
        for target, (fmr, tar, threshold) in zip(
            targets, _at_most(genuine_G, falling, np.array(allowed, dtype=np.int64)), strict=True
        )
    ]


def nearest_points(genuine_G: Scores, impostors: Impostors, targets: Sequence[float]) -> list[OperatingPoint]:
    """Return for each target the ROC point nearest in FMR; of two equally near, that of larger FMR, then TAR.

    The points are those of ``sklearn.metrics.roc_curve`` with its default ``drop_intermediate``: one per
    distinct score, without those that lie evenly on a line between their neighbours, and (0, 0). As they may
    be far apart, the FMR read can exceed the target; ``OperatingPoint.fmr`` tells. Only the impostor scores
    around each target are sorted. Where impostor scores are made exact on demand, ties between them are those of
    equal embeddings (``Falling.tied_S``); two products that merely share their last bit make no corner.

    Raises:
        ValueError: no genuine or no impostor scores.
    """
    falling = _falling(genuine_G, impostors)
    rising_G = np.sort(genuine_G.astype(np.float64))
    # a corner of the ROC lies beside a genuine score, or at a score that several impostor pairs share
    special_S = np.sort(np.concatenate([rising_G, falling.tied_S]))
    found: dict[float, OperatingPoint] = {}
    beside = 2
    while len(found) < len(targets):
        missing = [target for target in targets if target not in found]
        for target, corners in zip(missing, _around(rising_G, special_S, falling, missing, beside), strict=True):
            if corners.settle(target):
                found[target] = corners.nearest(target)
        beside *= 4
    return [found[target] for target in targets]


def _around(
    rising_G: Floats, special_S: Floats, falling: Falling, targets: Sequence[float], beside: int
) -> list[_Corners]:
    """Return the corners around each target, up to ``beside`` special scores on either side of it."""
    rank_K = np.minimum((np.array(targets) * falling.size).astype(np.int64), falling.size - 1)
    place_K = np.searchsorted(special_S, falling.at(rank_K))
    near_K = [special_S[max(place - beside, 0) : place + beside] for place in place_K]
    near_S, bounds_K = np.concatenate(near_K), np.cumsum([near.size for near in near_K])[:-1]
    # equal scores take the ranks from the one count to the other
    above_S, from_S = (falling.count(near_S, inclusive=inclusive) for inclusive in (False, True))
    ranks_K = zip(np.split(above_S, bounds_K), np.split(from_S, bounds_K), strict=True)
    pieces: list[tuple[int, int]] = []
    owner: list[int] = []
    for number, (rank, place, (above, last)) in enumerate(zip(rank_K, place_K, ranks_K, strict=True)):
        runs = [(int(rank), int(rank)), *zip(above.tolist(), last.tolist(), strict=True)]
        runs += [(0, 0)] if place + beside >= special_S.size else []
        runs += [(falling.size, falling.size)] if place < beside else []
        # exact scores: all between the outermost; else only where a corner may be
        low, high = min(low for low, _ in runs), max(high for _, high in runs)
        whole = not falling.error or high - low < _SHORT
        new = [(low, high)] if whole else [(low - _BESIDE, high + _BESIDE) for low, high in sorted(set(runs))]
        pieces += new
        owner += [number] * len(new)
    low_2K = np.array(pieces, dtype=np.int64)
    stretches = falling.stretches(low_2K[:, 0], low_2K[:, 1])
    return [
        _corners(rising_G, falling.size, [one for one, of in zip(stretches, owner, strict=True) if of == number])
        for number in range(len(targets))
    ]


@dataclass(frozen=True)
class _Corners:
    """Kept points of a range of the ROC, from high to low scores: rates, scores, and whether it reaches an end."""

    fmr_K: Floats
    tar_K: Floats
    score_K: Floats
    from_start: bool
    to_end: bool

    def settle(self, target: float) -> bool:
        """Return whether the point nearest to ``target`` is certain to be among these."""
        beyond_K = self.fmr_K[self.fmr_K >= target]
        # the last of several points of one FMR is known when one of larger FMR follows
        return (self.from_start or bool((self.fmr_K <= target).any())) and (
            self.to_end or bool(beyond_K.size and beyond_K[-1] > beyond_K[0])
        )

    def nearest(self, target: float) -> OperatingPoint:
        away_K = np.abs(self.fmr_K - target)
        best = away_K.size - 1 - int(np.argmin(away_K[::-1]))
        return OperatingPoint(target, float(self.fmr_K[best]), float(self.tar_K[best]), float(self.score_K[best]))


def _corners(rising_G: Floats, num_impostor: int, stretches: Sequence[Stretch]) -> _Corners:
    """Return scikit-learn's kept ROC points in some ranges, with (0, 0) where one begins there."""
    parts = [_kept(rising_G, stretch) for stretch in stretches]
    fp_K, tp_K, score_K = (np.concatenate([part[column] for part in parts]) for column in range(3))
    order_K = np.lexsort((tp_K, fp_K))
    return _Corners(
        fp_K[order_K] / num_impostor,
        tp_K[order_K] / rising_G.size,
        score_K[order_K],
        any(math.isinf(stretch.last) for stretch in stretches),
        any(math.isinf(stretch.first) for stretch in stretches),
    )


def _kept(rising_G: Floats, stretch: Stretch) -> tuple[Floats, Floats, Floats]:
    """Return false matches, true matches and the score at the kept points of one range."""
    inside_G = rising_G[(rising_G >= stretch.first) & (rising_G < stretch.last)]
    score_K = np.unique(np.concatenate([inside_G, stretch.rising_M]))[::-1]
    fp_K = stretch.num_above + stretch.rising_M.size - np.searchsorted(stretch.rising_M, score_K, side="left")
    tp_K = rising_G.size - np.searchsorted(rising_G, score_K, side="left")
    kept_K = np.ones(score_K.size, dtype=np.bool_)
    kept_K[1:-1] = (np.diff(fp_K, 2) != 0) | (np.diff(tp_K, 2) != 0)
    # whether a point at the edge of the stretch lies on a line shows only with its neighbour beyond
    kept_K[:1] &= math.isinf(stretch.last)
    kept_K[-1:] &= math.isinf(stretch.first)
    start = np.zeros(1 if math.isinf(stretch.last) else 0)
    return (
        np.concatenate([start, fp_K[kept_K]]),
        np.concatenate([start, tp_K[kept_K]]),
        np.concatenate([start + np.inf, score_K[kept_K]]),
    )


def roc(genuine_G: Scores, impostors: Impostors, num_points: int = 200) -> list[OperatingPoint]:
    """Return at most ``num_points`` rising points of the ROC, evenly spread over the logarithm of the FMR.

    Each is the largest TAR for its number of false matches, from none to all; ``target`` is the FMR allowed.
    """
    falling = _falling(genuine_G, impostors)
    spread = np.geomspace(1, falling.size, num_points - 1).round().astype(np.int64)
    allowed_K = np.unique(np.concatenate([[0], spread]))
    points: list[OperatingPoint] = []
    for allowed, (fmr, tar, threshold) in zip(allowed_K, _at_most(genuine_G, falling, allowed_K), strict=True):
        if not points or (fmr, tar) != (points[-1].fmr, points[-1].tar):
            points.append(OperatingPoint(int(allowed) / falling.size, fmr, tar, threshold))
    return points


def _falling(genuine_G: Scores, impostors: Impostors) -> Falling:
    num_impostor = impostors.size
    if not genuine_G.size or not num_impostor:
        raise InputError(f"rates need genuine and impostor scores, got {genuine_G.size} and {num_impostor}")
    impostor_I = impostors.score_I if isinstance(impostors, Falling) else impostors
    if np.isnan(genuine_G).any() or np.isnan(impostor_I).any():
        raise InputError("scores hold NaN: the embeddings are not finite")
    return impostors if isinstance(impostors, Falling) else Falling(impostors)


def _at_most(genuine_G: Scores, falling: Falling, allowed_K: Counts) -> list[tuple[float, float, float]]:
    """Return (fmr, tar, threshold) of the lowest threshold with at most so many false matches, by count."""
    rising_G = np.sort(genuine_G.astype(np.float64))
    refused_K = falling.at(np.minimum(allowed_K, falling.size - 1))
    false_K = falling.count(refused_K, inclusive=False)
    true_K = rising_G.size - np.searchsorted(rising_G, refused_K, side="right")
    points = []
    for allowed, refused, false, true in zip(allowed_K, refused_K, false_K, true_K, strict=True):
        if allowed >= falling.size:
            points.append((1.0, 1.0, min(float(falling.at(np.array([falling.size - 1]))[0]), float(rising_G[0]))))
        else:
            points.append((int(false) / falling.size, int(true) / rising_G.size, float(np.nextafter(refused, np.inf))))
    return points
