"""What a cut on a quality score means on a set: share of images and pairs it drops, FNMR before and after, with bands.

A cut is a score; images below it are dropped, and with them every pair that has one. Cuts lie at the percentiles of
the set's own images. The threshold is fixed on all impostor pairs, as in ISO/IEC 29794-1: a system runs at one
threshold.

Bands are those of 200 resamples of people, as in ``curve_bands``, with threshold and cut as measured.

Shapes: N images, P pairs, G genuine pairs, K cuts, B resamples, U units (people).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.metrics.curve_bands import interval

Floats = NDArray[np.float64]
Numbers = NDArray[np.floating[Any]]
Units = NDArray[np.integer[Any]]

NUM_PERCENTS = 100
_TAIL = 0.025

COLUMNS = (
    "percent", "cut", "images_dropped", "genuine_dropped", "fnmr", "low", "high", "less", "less_low", "less_high",
    "people_left", "fmr_left",
)  # fmt: skip


@dataclass(frozen=True)
class Cut:
    """One cut; rates and shares are fractions. ``less`` is how much lower FNMR is than with all images."""

    percent: float
    cut: float
    images_dropped: float
    genuine_dropped: float
    fnmr: float
    low: float
    high: float
    less: float
    less_low: float
    less_high: float
    people_left: int
    fmr_left: float
    """FMR of the pairs that are left, at the same threshold."""


def cuts(
    score_N: Numbers,
    quality_P: Numbers,
    cosine_P: Numbers,
    is_same_P: NDArray[np.bool_],
    threshold: float,
    unit_P: Units,
    weight_BU: NDArray[np.floating[Any]],
) -> list[Cut]:
    """Return the whole set (cut -inf), then a cut at each percentile 0, 1, ... 99 of the images.

    Empty where no image has a score, or there is no genuine pair.

    Args:
        score_N: of each image; -inf: it could not be processed or assessed, and every cut drops it.
        quality_P: of each pair, that of its worse side.
        cosine_P: similarity; a pair matches when it is at least ``threshold``.
        is_same_P: genuine pairs.
        threshold: of the false match rate.
        unit_P: person of the first side of each pair.
        weight_BU: resamples of people (``curve_bands.draw_weights``).
    """
    rising_N = np.sort(score_N[np.isfinite(score_N)])
    if not rising_N.size or not is_same_P.any():
        return []
    place_K = np.floor(np.arange(NUM_PERCENTS) * rising_N.size / NUM_PERCENTS).astype(int)
    cut_K = np.concatenate([[-np.inf], rising_N[place_K]])
    below_K = np.searchsorted(rising_N, cut_K) + (score_N.size - rising_N.size) * (cut_K > -np.inf)
    step_P = np.searchsorted(cut_K, quality_P, side="right") - 1  # the last cut that keeps the pair
    wrong_P = (cosine_P >= threshold) != is_same_P
    step_G, wrong_G, unit_G = step_P[is_same_P], wrong_P[is_same_P], unit_P[is_same_P]
    weights = [np.ones(weight_BU.shape[1], np.float64), *weight_BU]
    fnmr_BK = np.stack([_rates(step_G, wrong_G, weight_U[unit_G], cut_K.size) for weight_U in weights])
    fmr_K = _rates(step_P[~is_same_P], wrong_P[~is_same_P], None, cut_K.size)
    genuine_K = _left(np.bincount(step_G, minlength=cut_K.size))
    found = []
    for k, cut in enumerate(cut_K.tolist()):
        people = int(np.unique(unit_G[step_G >= k]).size)
        shares = (float(below_K[k]) / score_N.size, 1 - float(genuine_K[k]) / step_G.size)
        bands = (*_with_band(fnmr_BK[:, k], people), *_between(fnmr_BK[:, 0] - fnmr_BK[:, k]))
        found.append(Cut(max(k - 1, 0), cut, *shares, *bands, people, float(fmr_K[k])))
    return found


def _left(count_K: NDArray[Any]) -> NDArray[Any]:
    left_K: NDArray[Any] = count_K[::-1].cumsum()[::-1]
    return left_K


def _rates(step_P: Units, wrong_P: NDArray[np.bool_], weight_P: Floats | None, num: int) -> Floats:
    """Return the weighted share of wrong pairs among those that each cut keeps; NaN where it keeps none."""
    all_K = _left(np.bincount(step_P, weight_P, num)).astype(np.float64)
    chosen = None if weight_P is None else weight_P[wrong_P]
    wrong_K = _left(np.bincount(step_P[wrong_P], chosen, num)).astype(np.float64)
    rate_K: Floats = np.divide(wrong_K, all_K, out=np.full(num, np.nan), where=all_K > 0)
    return rate_K


def _with_band(rate_B: Floats, people: int) -> tuple[float, float, float]:
    """Return the first rate and the band of the others; no error at all: the exact binomial limit over people."""
    value = float(rate_B[0])
    low, high = interval(rate_B[1:])
    if value == 0:
        high = max(high, 1 - _TAIL ** (1 / max(people, 1)))
    return value, min(low, value), max(high, value)


def _between(less_B: Floats) -> tuple[float, float, float]:
    low, high = interval(less_B[1:])
    return float(less_B[0]), low, high


def smallest(found: list[Cut], fnmr: float) -> Cut | None:
    """Return the cut that drops fewest images and leaves an FNMR of at most ``fnmr``; None if none does."""
    return next((one for one in found if not math.isnan(one.fnmr) and one.fnmr <= fnmr), None)
