"""Thinned curves stay where they were: ends, extremes, steps, and everything between within the tolerance."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.metrics.thinning import Points, distances, thin

NUMBERS = st.floats(-100, 100, allow_nan=False).map(lambda x: round(x, 2))
CURVES = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=60).map(np.array)
TOLERANCES = st.floats(0.01, 20)
SIDES = st.lists(st.floats(0.01, 5), min_size=1, max_size=40)


def furthest(point_N2: Points, kept_K: np.ndarray) -> float:
    """Return how far the furthest point of a curve is from the part of the thinned one that stands for it."""
    away = [0.0]
    for first, last in itertools.pairwise(kept_K):
        if last - first > 1:
            between = distances(point_N2[first + 1 : last], point_N2[first], point_N2[last])
            away.append(float(between.max()))
    return max(away)


@given(CURVES, TOLERANCES)
def test_no_point_is_further_away_than_the_tolerance(point_N2: Points, tolerance: float):
    kept = thin(point_N2, tolerance)
    assert furthest(point_N2, kept) <= tolerance * (1 + 1e-9)
    assert (np.diff(kept) > 0).all()


@given(CURVES, TOLERANCES)
def test_both_ends_and_the_extremes_stay(point_N2: Points, tolerance: float):
    kept = thin(point_N2, tolerance)
    assert (kept[0], kept[-1]) == (0, len(point_N2) - 1)
    thinned_K2 = point_N2[kept]
    assert (thinned_K2.min(axis=0) == point_N2.min(axis=0)).all()
    assert (thinned_K2.max(axis=0) == point_N2.max(axis=0)).all()


@given(SIDES, TOLERANCES)
def test_the_corners_of_a_step_stay(sides: list[float], tolerance: float):
    """A staircase of sides across and up in turn: a corner between two sides of three tolerances stays."""
    length_N = np.array(sides) * tolerance
    across_N = np.arange(len(sides)) % 2 == 0
    steps_N2 = np.stack([length_N * across_N, length_N * ~across_N], axis=1)
    point_N2 = np.vstack([np.zeros((1, 2)), steps_N2.cumsum(axis=0)])
    kept = set(thin(point_N2, tolerance).tolist())
    for corner in range(1, len(sides)):
        if sides[corner - 1] >= 3 and sides[corner] >= 3:
            assert corner in kept


@given(CURVES)
def test_what_is_thin_already_stays_as_it_is(point_N2: Points):
    once = point_N2[thin(point_N2, 1e-12)]
    assert len(thin(once, 1e-12)) == len(once)


def test_a_straight_line_is_two_points_and_a_wave_is_few():
    x = np.linspace(0, 174, 5000)
    assert thin(np.stack([x, 2 * x], axis=1), 0.5).tolist() == [0, 4999]
    wave = thin(np.stack([x, 60 * np.sin(x / 20)], axis=1), 0.5)
    assert 10 < len(wave) < 60


@pytest.mark.parametrize("points", [[[1.0, 2.0]], [[1.0, 2.0], [1.0, 2.0]], [[1.0, 2.0]] * 5])
def test_a_curve_that_is_one_point_keeps_its_ends(points: list[list[float]]):
    kept = thin(np.array(points), 0.5)
    assert {0, len(points) - 1} <= set(kept.tolist())
