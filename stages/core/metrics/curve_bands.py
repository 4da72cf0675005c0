"""Confidence bands of error-versus-discard curves: 95 % intervals by resampling people, not pairs.

Pairs of one person are not independent, so whole people are drawn with replacement (the subsets bootstrap of
Bolle, Ratha & Pankanti, CVIU 93, 2004); an impostor pair counts as often as both of its people together were
drawn (the vertex bootstrap of Snijders & Borgatti, Connections 22, 1999). Which pairs a step puts aside stays
as measured; every threshold is found anew in each resample, by the rule of its curve.

Shapes: P pairs, G genuine, I impostor, U units (people, or pairs where nobody knows the people), B resamples,
    K steps of discarding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import InputError
from stages.core.metrics.discard_curves import ERC_DISCARD_K, dropping_steps

Convention = Literal["cr_fiqa", "iso"]
Scores = NDArray[np.floating[Any]]
Floats = NDArray[np.float64]
Weights = NDArray[np.float32]
Mask = NDArray[np.bool_]
Steps = NDArray[np.uint8]
Units = NDArray[np.integer[Any]]

NUM_RESAMPLES = 200
_TAIL = 0.025
# beyond these, evenly spaced ones stand for all: a band need not be finer than the sample of people behind it
_MANY_GENUINE, _MANY_TOP, _MANY_LEFT = 20_000, 500, 20_000
# impostor scores kept for each that a threshold needs: resamples and steps move it
_SPARE, _SPARE_LEAST = 4, 16
_MOST_EMPTY = 0.1


@dataclass(frozen=True)
class Pairs:
    """Verification pairs with the unit (row of a weight) of either side; a genuine pair has one unit."""

    score_P: Scores
    is_same_P: Mask
    quality_P: Scores
    first_unit_P: Units
    second_unit_P: Units


@dataclass(frozen=True)
class Band:
    """Low and high of a curve on CR-FIQA's grid; NaN where the curve or too many resamples have no value."""

    low_K: Floats
    high_K: Floats
    area_B: Floats
    """Area under the curve by the trapezoid rule, in each resample; NaN if the grid has a gap."""


def interval(value_B: Floats) -> tuple[float, float]:
    """Return the 2.5th and 97.5th percentile of resamples; NaN if more than a tenth of them have no value."""
    if np.isnan(value_B).mean() > _MOST_EMPTY:
        return math.nan, math.nan
    low, high = np.nanquantile(value_B, [_TAIL, 1 - _TAIL])
    return float(low), float(high)


def draw_weights(num_units: int, seed: int = 0, num_resamples: int = NUM_RESAMPLES) -> Weights:
    """Return how often each unit was drawn in each resample, (B, U); the same for the same arguments.

    >>> draw_weights(7).sum(axis=1).tolist() == [7.0] * NUM_RESAMPLES
    True
    """
    random = np.random.default_rng(seed)
    drawn_BU = random.integers(0, num_units, (num_resamples, num_units), dtype=np.int32)
    flat = drawn_BU + num_units * np.arange(num_resamples, dtype=np.int64)[:, None]
    counts = np.bincount(flat.ravel(), minlength=num_resamples * num_units)
    return counts.reshape(num_resamples, num_units).astype(np.float32)


def bands(
    pairs: Pairs, weight_BU: Weights, curves: Mapping[float, Mapping[Convention, Floats]]
) -> dict[float, dict[Convention, Band]]:
    """Return one band per curve.

    Args:
        pairs: that the curves were measured on.
        weight_BU: ``draw_weights`` for the number of units.
        curves: FNMR on ``ERC_DISCARD_K`` by false match rate and convention, as measured; what bands surround.

    Raises:
        ValueError: a unit has no weight, or the lengths differ.
    """
    sizes = {column.size for column in vars(pairs).values()}
    highest = max(int(pairs.first_unit_P.max()), int(pairs.second_unit_P.max())) + 1
    if len(sizes) > 1 or highest > weight_BU.shape[1]:
        raise InputError(
            f"wanted as many units, labels and qualities as scores, got {sorted(sizes)}, and weights of all "
            f"{highest} units, got {weight_BU.shape[1]}"
        )
    step_P = dropping_steps(pairs.quality_P)
    genuine = _Genuine.of(pairs, step_P, weight_BU)
    total_BK = _totals(pairs, step_P, weight_BU)
    found: dict[float, dict[Convention, Band]] = {}
    for fmr, measured in curves.items():
        impostors = _Impostors.of(pairs, step_P, weight_BU, fmr, total_BK)
        values: dict[Convention, Any] = {"cr_fiqa": _moving(genuine, impostors), "iso": _fixed(genuine, impostors)}
        found[fmr] = {
            convention: _band(curve_K, values[convention], genuine, convention)
            for convention, curve_K in measured.items()
        }
    return found


@dataclass(frozen=True)
class _Genuine:
    """Genuine pairs by rising score; the first row of the weights is all ones: the original sample."""

    score_G: Scores
    weight_BG: Weights
    step_G: dict[Convention, Steps]
    unit_G: Units

    @classmethod
    def of(cls, pairs: Pairs, step_P: Steps, weight_BU: Weights) -> _Genuine:
        rows_G = np.flatnonzero(pairs.is_same_P)
        iso_G = _tied_steps(pairs.quality_P[rows_G])
        every = math.ceil(rows_G.size / _MANY_GENUINE)
        order_G = np.argsort(pairs.score_P[rows_G[::every]], kind="stable")
        rows_G, iso_G = rows_G[::every][order_G], iso_G[::every][order_G]
        unit_G = pairs.first_unit_P[rows_G]
        steps: dict[Convention, Steps] = {"cr_fiqa": step_P[rows_G], "iso": iso_G}
        return cls(pairs.score_P[rows_G], _with_ones(weight_BU[:, unit_G]), steps, unit_G)

    def fnmr(self, convention: Convention, step: int, at_most_B: Scores) -> Floats:
        """Return the share of the weight left at a step whose scores are at most each resample's threshold."""
        left_G = self.step_G[convention] >= step
        sum_BG = np.cumsum(self.weight_BG[:, left_G], axis=1, dtype=np.float64)
        errors_B = np.searchsorted(self.score_G[left_G], at_most_B, side="right")
        if not sum_BG.shape[1]:
            return np.full(at_most_B.size, np.nan)
        rows_B = np.arange(at_most_B.size)
        error_B = np.where(errors_B > 0, sum_BG[rows_B, np.maximum(errors_B, 1) - 1], 0.0)
        total_B = sum_BG[:, -1]
        known_B = (total_B > 0) & ~np.isnan(at_most_B)
        fnmr_B: Floats = np.divide(error_B, total_B, out=np.full(total_B.size, np.nan), where=known_B)
        return fnmr_B


@dataclass(frozen=True)
class _Impostors:
    """The highest impostor scores, falling, and the total weight at each step."""

    fmr: float
    score_I: Scores
    step_I: Steps
    weight_BI: Weights
    total_BK: Floats

    @classmethod
    def of(cls, pairs: Pairs, step_P: Steps, weight_BU: Weights, fmr: float, total_BK: Floats) -> _Impostors:
        rows_I = np.flatnonzero(~pairs.is_same_P)
        every = max(1, int(fmr * rows_I.size / _MANY_TOP))
        rows_I = rows_I[::every]
        score_I, step_I = pairs.score_P[rows_I], step_P[rows_I]
        top_I = np.argsort(-score_I, kind="stable")[: _needed(rows_I.size, fmr)]
        missing = [
            step
            for step in range(ERC_DISCARD_K.size)
            if (num_left := int((step_I >= step).sum()))
            and (step_I[top_I] >= step).sum() < min(num_left, _needed(num_left, fmr) // 2)
        ]
        if missing:  # what is left scores lower than what was dropped
            kept_I = np.zeros(rows_I.size, dtype=np.bool_)
            kept_I[top_I] = True
            for step in missing:
                left_I = np.flatnonzero(step_I >= step)
                kept_I[left_I[np.argsort(-score_I[left_I], kind="stable")[: _needed(left_I.size, fmr)]]] = True
            kept_rows = np.flatnonzero(kept_I)
            top_I = kept_rows[np.argsort(-score_I[kept_rows], kind="stable")]
        weight_BI = _with_ones(_pair_weights(pairs, rows_I[top_I], weight_BU))
        return cls(fmr, score_I[top_I], step_I[top_I], weight_BI, total_BK / every)


def _needed(num_impostor: int, fmr: float) -> int:
    return math.ceil(_SPARE * fmr * num_impostor) + _SPARE_LEAST


def _totals(pairs: Pairs, step_P: Steps, weight_BU: Weights) -> Floats:
    """Return the weight of all impostor pairs left at each step, (1 + B, K)."""
    rows_I = np.flatnonzero(~pairs.is_same_P)
    every = math.ceil(rows_I.size / _MANY_LEFT) or 1
    num_K = _left(np.bincount(step_P[rows_I], minlength=ERC_DISCARD_K.size)[None, :])
    seen_I = rows_I[::every]
    order_I = np.argsort(step_P[seen_I], kind="stable")
    counts_K = np.bincount(step_P[seen_I], minlength=ERC_DISCARD_K.size)
    weight_BI = _with_ones(_pair_weights(pairs, seen_I[order_I], weight_BU))
    sum_BI = np.concatenate([np.zeros((len(weight_BI), 1)), np.cumsum(weight_BI, axis=1, dtype=np.float64)], axis=1)
    ends_K = np.cumsum(counts_K)
    at_BK = _left(sum_BI[:, ends_K] - sum_BI[:, ends_K - counts_K])
    seen_K = _left(counts_K[None, :])
    total_BK: Floats = at_BK * np.divide(num_K, seen_K, out=np.ones(num_K.shape), where=seen_K > 0)
    return total_BK


def _left(last_BK: NDArray[Any]) -> NDArray[Any]:
    """Return for each step the weight still present, from the weight whose last step each one is."""
    return last_BK[:, ::-1].cumsum(axis=1)[:, ::-1]


def _pair_weights(pairs: Pairs, rows_P: Units, weight_BU: Weights) -> Weights:
    first_P, second_P = pairs.first_unit_P[rows_P], pairs.second_unit_P[rows_P]
    weight_BP: Weights = weight_BU[:, first_P]
    return np.where(first_P == second_P, weight_BP, weight_BP * weight_BU[:, second_P])


def _with_ones(weight_BP: Weights) -> Weights:
    return np.concatenate([np.ones((1, weight_BP.shape[1]), np.float32), weight_BP])


def _tied_steps(quality_G: Scores) -> Steps:
    """Return the last ISO-curve step at which each comparison is present: equal qualities drop together."""
    # the curve's point at which it is gone: after all of its quality
    gone_G = np.searchsorted(np.sort(quality_G), quality_G, side="right") / quality_G.size
    last: Steps = (np.searchsorted(ERC_DISCARD_K, gone_G, side="left") - 1).astype(np.uint8)
    return last


def _moving(genuine: _Genuine, impostors: _Impostors) -> Floats:
    """Return FNMR at the score whose FMR is nearest the target among the remaining pairs, (1 + B, K)."""
    columns = []
    for step in range(ERC_DISCARD_K.size):
        left_G = genuine.step_G["cr_fiqa"] >= step
        at_most_B = _nearest(genuine.score_G[left_G], impostors, step)
        columns.append(genuine.fnmr("cr_fiqa", step, at_most_B))
    return np.stack(columns, axis=1)


def _fixed(genuine: _Genuine, impostors: _Impostors) -> Floats:
    """Return FNMR at the lowest threshold whose FMR among all impostors is at most the target, (1 + B, K)."""
    false_BI = np.cumsum(impostors.weight_BI, axis=1, dtype=np.float64)
    allowed_B1 = impostors.fmr * impostors.total_BK[:, :1] * (1 + 1e-9) + 1e-9
    refused_B = np.minimum((false_BI <= allowed_B1).sum(axis=1), impostors.score_I.size - 1)
    at_most_B = impostors.score_I[refused_B]
    return np.stack([genuine.fnmr("iso", step, at_most_B) for step in range(ERC_DISCARD_K.size)], axis=1)


def _nearest(score_G: Scores, impostors: _Impostors, step: int) -> Floats:
    """Return each resample's threshold at a step, by the rule of ``erc_curve``; NaN if nothing is left.

    ``score_G`` are those of the genuine pairs left, rising.
    """
    left_I = impostors.step_I >= step
    score_I = impostors.score_I[left_I]
    total_B1 = impostors.total_BK[:, step : step + 1]
    if not score_G.size or not score_I.size:
        return np.full(total_B1.size, np.nan)
    false_BI = np.cumsum(impostors.weight_BI[:, left_I], axis=1, dtype=np.float64)
    rate_BI = np.divide(false_BI, total_B1, out=np.full(false_BI.shape, np.inf), where=total_B1 > 0)
    far_BI = np.abs(rate_BI - impostors.fmr)
    far_BI[:, :-1][:, score_I[:-1] == score_I[1:]] = np.inf  # equal scores match together
    # the last of the nearest: the larger rate, and the lowest score with it
    accepted_B = score_I.size - np.argmin(far_BI[:, ::-1], axis=1)
    if score_G[-1] > score_I[0]:
        best_B = far_BI[np.arange(accepted_B.size), accepted_B - 1]
        accepted_B = np.where(best_B <= impostors.fmr, accepted_B, 0)
    refused_B = np.append(score_I, -np.inf)[accepted_B]
    genuine_B = np.append(score_G, np.inf)[np.searchsorted(score_G, refused_B, side="right")]
    at_B: Floats = np.minimum(genuine_B, np.append(np.inf, score_I)[accepted_B]).astype(np.float64)
    return at_B


def _band(curve_K: Floats, value_BK: Floats, genuine: _Genuine, convention: Convention) -> Band:
    """Return percentiles around the curve; ``value_BK`` begins with the original sample, thinned where large."""
    drawn_BK = np.clip(value_BK[1:] + (curve_K - value_BK[0]), 0, 1)
    used_K = np.isfinite(curve_K) & (np.isnan(drawn_BK).mean(axis=0) <= _MOST_EMPTY)
    limits_2K = np.full((2, curve_K.size), np.nan)
    limits_2K[:, used_K] = np.nanquantile(drawn_BK[:, used_K], [_TAIL, 1 - _TAIL], axis=0)
    for step in np.flatnonzero(used_K & (curve_K == 0)):
        # no resample of no errors has any: the exact binomial limit over the units left
        units = np.unique(genuine.unit_G[genuine.step_G[convention] >= step]).size
        limits_2K[1, step] = max(limits_2K[1, step], 1 - _TAIL ** (1 / max(units, 1)))
    area_B: Floats = np.trapezoid(drawn_BK, ERC_DISCARD_K, axis=1)
    low_K, high_K = np.fmin(limits_2K[0], curve_K), np.fmax(limits_2K[1], curve_K)
    return Band(np.where(used_K, low_K, np.nan), np.where(used_K, high_K, np.nan), area_B)
