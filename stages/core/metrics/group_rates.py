"""FMR and FNMR of groups of pairs at one threshold, with 95 % bands by resampling people.

As ISO/IEC 19795-10: every group is measured at the threshold that is set for all pairs together. Whole people are drawn
with replacement, an impostor pair counts as often as both of its people together (see ``curve_bands``).

Shapes: P pairs, B resamples, U units (people), G groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.metrics.curve_bands import draw_weights, interval

Floats = NDArray[np.float64]
Units = NDArray[np.integer[Any]]

_TAIL = 0.025


@dataclass(frozen=True)
class Rate:
    """An error rate, a fraction, and its 95 % band; NaN where too many resamples have no such pair."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class GroupRates:
    """The rates of one group; None where it has no such pairs."""

    genuine: int
    impostor: int
    fnmr: Rate | None
    fmr: Rate | None


def by_group(
    score_P: Floats,
    is_same_P: NDArray[np.bool_],
    group_P: Units,
    threshold: float,
    first_unit_P: Units,
    second_unit_P: Units,
) -> list[GroupRates]:
    """Return the rates of each group, and last those of all pairs.

    Args:
        score_P: higher is more alike; a pair matches when its score is at least the threshold.
        is_same_P: genuine pairs.
        group_P: from 0; -1: the pair is in no group.
        threshold: for all groups, the same in every resample.
        first_unit_P: person of the first side of each pair.
        second_unit_P: person of the second side.

    >>> rates = by_group(
    ...     np.array([0.9, 0.1, 0.3, 0.8]), np.array([True, True, False, False]), np.array([0, 0, 0, 1]), 0.5,
    ...     np.array([0, 1, 0, 2]), np.array([0, 1, 1, 3]),
    ... )
    >>> [(one.fnmr and one.fnmr.value, one.fmr and one.fmr.value) for one in rates]
    [(0.5, 0.0), (None, 1.0), (0.5, 0.5)]
    """
    num_groups = int(group_P.max()) + 1
    wrong_P = (score_P >= threshold) != is_same_P
    bucket_P = np.where(group_P < 0, num_groups, group_P)
    code_P = 4 * bucket_P + 2 * is_same_P + wrong_P
    num_units = int(max(first_unit_P.max(), second_unit_P.max())) + 1
    one_unit_P = first_unit_P == second_unit_P
    counts = [_count(code_P, None, num_groups)]
    for weight_U in draw_weights(num_units):
        weight_P = weight_U[first_unit_P] * np.where(one_unit_P, 1, weight_U[second_unit_P])
        counts.append(_count(code_P, weight_P, num_groups))
    count_BG22 = np.stack(counts)
    found = []
    for group in range(num_groups + 1):
        mine_P = (bucket_P == group) | (group == num_groups)
        sides = []
        for same in (1, 0):
            chosen_P = mine_P & (is_same_P == bool(same))
            people = np.unique(np.concatenate([first_unit_P[chosen_P], second_unit_P[chosen_P]])).size
            sides.append(_rate(count_BG22[:, group, same], people))
        numbers = count_BG22[0, group].sum(axis=1)
        found.append(GroupRates(int(numbers[1]), int(numbers[0]), *sides))
    return found


def _count(code_P: Units, weight_P: Floats | None, num_groups: int) -> Floats:
    """Return the weight of pairs by group (last: all), genuine, and wrong."""
    weights = np.bincount(code_P, weight_P, minlength=4 * (num_groups + 1)).reshape(-1, 2, 2).astype(np.float64)
    weights[num_groups] = weights.sum(axis=0)
    return weights


def _rate(count_B2: Floats, people: int) -> Rate | None:
    """Return the rate of the first row, right and wrong, and the band that the others give."""
    total_B = count_B2.sum(axis=1)
    if not total_B[0]:
        return None
    rate_B = np.divide(count_B2[:, 1], total_B, out=np.full(total_B.size, np.nan), where=total_B > 0)
    low, high = interval(rate_B[1:])
    value = float(rate_B[0])
    if value == 0:
        # no resample of no errors has any: the exact binomial limit over the people
        high = max(high, 1 - _TAIL ** (1 / max(people, 1)))
    return Rate(value, min(low, value), max(high, value))
