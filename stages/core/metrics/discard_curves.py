"""Error-versus-discard curves: FNMR as low-quality pairs are discarded, by two conventions.

- ``erc_curve``: CR-FIQA ERC/erc.py and ERC/roc.py at eb03b813. Genuine and impostor pairs are discarded
  together and the threshold is found anew on what remains.
- ``edc_curve``: ISO/IEC 29794-1 as in dasec/quality-assessment-evaluation edc.py at 2a66097f. One threshold
  is fixed before anything is discarded, and only the comparisons given are counted.

Shapes: P pairs, G genuine, I impostor, K steps of discarding. Scores and qualities: higher is more alike,
    better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import InputError

Scores = NDArray[np.floating[Any]]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Counts = NDArray[np.int64]
Steps = NDArray[np.uint8]

_SPARE = 4

# the published grid: 0, 5, ..., 95 percent, with its rounding, which decides how many pairs a step drops
ERC_DISCARD_K: Floats = np.arange(0, 0.98, 0.05)


@dataclass(frozen=True)
class ErcCurve:
    """A curve whose threshold is computed anew at each step; NaN where no genuine or no impostor pair is left."""

    discard_K: Floats
    fnmr_K: Floats
    num_genuine_K: NDArray[np.int64]
    num_impostor_K: NDArray[np.int64]

    @property
    def auc(self) -> float:
        """Area by the trapezoid rule over the grid, not divided by its length; NaN if any step is NaN."""
        return float(np.trapezoid(self.fnmr_K, self.discard_K))


@dataclass(frozen=True)
class EdcCurve:
    """A step function: ``error_K[k]`` holds from ``discard_K[k]`` to the next; the last point is (1, 0)."""

    discard_K: Floats
    error_K: Floats

    def at(self, discard: float) -> float:
        """Return the error after a share ``discard`` of the comparisons is discarded."""
        return float(self.error_K[np.searchsorted(self.discard_K, discard, side="right") - 1])

    def pauc(self, limit: float) -> float:
        """Return the area under the steps from 0 to ``limit``, a share in (0, 1]."""
        inside = np.append(self.discard_K[self.discard_K < limit], limit)
        return float(np.sum(self.error_K[: inside.size - 1] * np.diff(inside)))

    def best_pauc(self, limit: float) -> float:
        """Return the area under max(0, error at 0 - discard): each discarded comparison was an error."""
        error = float(self.error_K[0])
        return error**2 / 2 - (max(0.0, error - limit) ** 2) / 2


def erc_curve(score_P: Scores, is_same_P: Mask, quality_P: Scores, fmrs: Sequence[float]) -> dict[float, ErcCurve]:
    """Return CR-FIQA's curve at each false match rate.

    The threshold of a step is the score whose FMR is nearest the target, of the larger FMR if two are equally
    near and of the lowest score with that FMR; a genuine pair exactly at it counts as an error, as published.
    Pairs of equal quality are discarded in the order given (published: whatever an unstable sort makes of
    them).

    Args:
        score_P: similarities.
        is_same_P: genuine pairs.
        quality_P: of the pair: the lower of its two images' scores. May be -inf, never NaN.
        fmrs: targets, fractions.

    Raises:
        ValueError: the lengths differ, or a quality is NaN.
    """
    if not score_P.size == is_same_P.size == quality_P.size or np.isnan(quality_P).any():
        raise InputError(
            f"a discard curve needs a score, a label and a quality for each pair, got {score_P.size}, "
            f"{is_same_P.size} and {quality_P.size} with {int(np.isnan(quality_P).sum())} NaN"
        )
    dropped_K = (ERC_DISCARD_K * score_P.size).astype(np.int64)
    step_P = _last_steps(quality_P, dropped_K)
    score_G, step_G = _rising(score_P[is_same_P], step_P[is_same_P])
    score_I, step_I = score_P[~is_same_P], step_P[~is_same_P]
    top_I, top_step_I = _highest(score_I, step_I, max(fmrs, default=0.0))
    num_left_K = np.bincount(step_I, minlength=dropped_K.size)[::-1].cumsum()[::-1]
    fnmr: dict[float, list[float]] = {fmr: [] for fmr in fmrs}
    left: list[tuple[int, int]] = []
    for step, num_left in enumerate(num_left_K.tolist()):
        rising_G, rising_I = score_G[step_G >= step], top_I[top_step_I >= step]
        left.append((rising_G.size, num_left))
        if rising_I.size < min(num_left, math.ceil(max(fmrs, default=0.0) * num_left) + 2):
            # what is left scores lower than what was dropped: the highest of all do not do
            top_I, top_step_I = _rising(score_I, step_I)
            rising_I = top_I[top_step_I >= step]
        for fmr in fmrs:
            fnmr[fmr].append(_fnmr_at_nearest(rising_G, rising_I, num_left, fmr))
    left_K2 = np.array(left, dtype=np.int64)
    return {fmr: ErcCurve(ERC_DISCARD_K, np.array(fnmr[fmr]), left_K2[:, 0], left_K2[:, 1]) for fmr in fmrs}


def dropping_steps(quality_P: Scores) -> Steps:
    """Return the last step of ``ERC_DISCARD_K`` at which ``erc_curve`` still counts each pair."""
    return _last_steps(quality_P, (ERC_DISCARD_K * quality_P.size).astype(np.int64))


def _last_steps(quality_P: Scores, dropped_K: Counts) -> Steps:
    """Return the last step at which each pair is present; equal qualities are dropped in the order given.

    A sort of values and a comparison for each step: five times as fast as the order of all pairs.
    """
    step_P = np.zeros(quality_P.size, dtype=np.uint8)
    rising_P = np.sort(quality_P)
    for dropped in dropped_K[1:].tolist() if quality_P.size else ():
        lowest = rising_P[dropped]
        step_P += quality_P >= lowest
        if num_tied := dropped - int(np.searchsorted(rising_P, lowest)):
            step_P[np.flatnonzero(quality_P == lowest)[:num_tied]] -= 1
    return step_P


def _rising(score_P: Scores, step_P: Steps) -> tuple[Scores, Steps]:
    order_P = np.argsort(score_P, kind="stable")
    return score_P[order_P], step_P[order_P]


def _highest(score_I: Scores, step_I: Steps, fmr: float) -> tuple[Scores, Steps]:
    """Return the highest scores, rising, several times as many as a threshold at ``fmr`` needs, and their steps."""
    num = math.ceil(_SPARE * fmr * score_I.size) + _SPARE
    if num >= score_I.size:
        return _rising(score_I, step_I)
    # with all that equal the lowest of them
    chosen_I = score_I >= np.partition(score_I, score_I.size - num)[score_I.size - num]
    return _rising(score_I[chosen_I], step_I[chosen_I])


def edc_curve(error_P: Mask, quality_P: Scores) -> EdcCurve:
    """Return the ISO curve of comparisons, some of which are errors; equal qualities drop together.

    Raises:
        ValueError: no comparison, or a quality is NaN.
    """
    if not error_P.size or np.isnan(quality_P).any():
        raise InputError(f"a discard curve needs comparisons with a quality each, got {error_P.size}, or one is NaN")
    order_P = np.argsort(quality_P, kind="stable")
    rising_P = quality_P[order_P]
    remaining_errors_P = np.cumsum(error_P[order_P][::-1])[::-1]
    dropped_K = np.concatenate([[0], np.flatnonzero(rising_P[1:] != rising_P[:-1]) + 1])
    error_K = remaining_errors_P[dropped_K] / (error_P.size - dropped_K)
    return EdcCurve(np.append(dropped_K / error_P.size, 1.0), np.append(error_K, 0.0))


def _fnmr_at_nearest(rising_G: Scores, rising_I: Scores, num_impostor: int, fmr: float) -> float:
    """Return FNMR at the score whose FMR is nearest ``fmr``; only the highest impostor scores are needed."""
    if not rising_G.size or not rising_I.size:
        return math.nan
    false = _nearest_count(rising_G, rising_I, num_impostor, fmr)
    # the lowest of all scores with so many false matches: just above the highest impostor score that is
    # refused
    first_genuine = int(np.searchsorted(rising_G, rising_I[-false - 1], side="right")) if false < rising_I.size else 0
    candidates = [rising_G[first_genuine]] if first_genuine < rising_G.size else []
    candidates += [rising_I[-false]] if false else []
    accepted = rising_G.size - int(np.searchsorted(rising_G, min(candidates), side="right"))
    return 1 - accepted / rising_G.size


def _nearest_count(rising_G: Scores, rising_I: Scores, num_impostor: int, fmr: float) -> int:
    """Return the number of false matches nearest to ``fmr``, among those that some score gives as threshold."""
    num = rising_I.size
    at = max(num - math.floor(fmr * num_impostor), 0)
    candidates = []
    if at > 0:
        candidates.append(num - int(np.searchsorted(rising_I, rising_I[at - 1], side="left")))
    # next threshold at or above `at` that starts a run of equal scores
    start = at
    if 0 < at < num and rising_I[at] == rising_I[at - 1]:
        start = int(np.searchsorted(rising_I, rising_I[at], side="right"))
    if start < num or rising_G[-1] > rising_I[-1]:
        candidates.append(num - start)
    return min(candidates, key=lambda false: (abs(false / num_impostor - fmr), -false))
