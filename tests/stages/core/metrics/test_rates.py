"""Thresholds, ROC points and TAR at FAR; scikit-learn's ROC is the independent reference of the published rule."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import roc_curve

from stages.core.metrics import rates

# few distinct values, so that ties are the rule
TIED = st.integers(-10, 10).map(lambda value: value / 10)
FREE = st.floats(-1, 1, allow_nan=False, width=32)


def some_scores(values, most=60):
    return st.integers(1, most).flatmap(lambda size: arrays(np.float64, size, elements=values))


def published(genuine, impostor, target):
    """Read TAR as the published script does: scikit-learn's ROC, reversed, nearest in FAR, first of those as near."""
    label = np.r_[np.ones(genuine.size), np.zeros(impostor.size)]
    fpr, tpr, _ = roc_curve(label, np.r_[genuine, impostor])
    fpr, tpr = np.flipud(fpr), np.flipud(tpr)
    index = np.argmin(np.abs(fpr - target))
    return tpr[index], fpr[index]


@given(
    some_scores(TIED) | some_scores(FREE),
    some_scores(TIED, 300) | some_scores(FREE, 300),
    st.sampled_from([1e-3, 0.02, 0.1, 0.5]),
)
def test_the_nearest_point_is_that_of_the_published_script(genuine, impostor, target):
    (point,) = rates.nearest_points(genuine, impostor, [target])
    assert (point.tar, point.fmr) == published(genuine, impostor, target)


def test_the_nearest_point_is_the_same_whether_few_or_all_impostor_scores_are_sorted():
    rng = np.random.default_rng(0)
    for decimals in (1, 2, 3, 8):
        genuine, impostor = rng.normal(1, 1, 300).round(decimals), rng.normal(0, 1, 20_000).round(decimals)
        for target in (1e-6, 1e-4, 1e-3, 0.01, 0.1, 1.0):
            (point,) = rates.nearest_points(genuine, impostor, [target])
            assert (point.tar, point.fmr) == published(genuine, impostor, target)


def test_the_threshold_of_the_nearest_point_gives_its_rates():
    rng = np.random.default_rng(1)
    genuine, impostor = rng.normal(1, 1, 300).round(2), rng.normal(0, 1, 5000).round(2)
    for point in rates.nearest_points(genuine, impostor, [1e-6, 1e-3, 0.1]):
        assert np.mean(genuine >= point.threshold) == point.tar
        assert np.mean(impostor >= point.threshold) == point.fmr


@given(some_scores(TIED), some_scores(TIED, 200), st.floats(0.005, 1))
def test_fmr_never_exceeds_its_target_even_with_ties(genuine, impostor, fmr):
    if rates.unresolved(impostor.size, fmr):
        with pytest.raises(ValueError, match=r"needs \d+ impostor scores"):
            rates.strict_points(genuine, impostor, [fmr])
        return
    threshold = rates.threshold_at_fmr(impostor, fmr)
    (point,) = rates.strict_points(genuine, impostor, [fmr])
    assert np.mean(impostor >= threshold) <= fmr + 1e-9
    assert point.fmr == np.mean(impostor >= threshold)
    assert point.tar == np.mean(genuine >= point.threshold)
    # lowest: the next lower impostor score, as threshold, would let too many through
    lower = impostor[impostor < threshold]
    assert not lower.size or np.mean(impostor >= lower.max()) > fmr


@given(some_scores(TIED), some_scores(TIED, 200))
def test_fnmr_falls_as_fmr_rises(genuine, impostor):
    points = rates.strict_points(genuine, impostor, [f for f in (0.02, 0.1, 0.3, 1.0) if f * impostor.size >= 1])
    assert [point.tar for point in points] == sorted(point.tar for point in points)
    drawn = rates.roc(genuine, impostor, 20)
    assert [point.fmr for point in drawn] == sorted(point.fmr for point in drawn)
    assert [point.tar for point in drawn] == sorted(point.tar for point in drawn)


@given(some_scores(TIED), some_scores(TIED, 200), st.randoms(use_true_random=False))
def test_the_order_of_pairs_is_irrelevant(genuine, impostor, random):
    shuffled = [np.array(random.sample(scores.tolist(), scores.size)) for scores in (genuine, impostor)]
    targets = [0.05, 0.5]
    assert rates.nearest_points(genuine, impostor, targets) == rates.nearest_points(*shuffled, targets)
    assert rates.read_rates(genuine, impostor, targets) == rates.read_rates(*shuffled, targets)
    assert rates.roc(genuine, impostor) == rates.roc(*shuffled)


def test_all_scores_equal_give_all_or_nothing():
    same = np.full(100, 0.5)
    assert rates.strict_points(same, same, [0.01])[0].tar == 0
    assert rates.strict_points(same, same, [1.0])[0].tar == 1
    assert [(point.fmr, point.tar) for point in rates.roc(same, same)] == [(0, 0), (1, 1)]


def test_a_roc_has_at_most_so_many_points_and_both_ends():
    rng = np.random.default_rng(2)
    genuine, impostor = rng.normal(1, 1, 5000), rng.normal(0, 1, 50_000)
    drawn = rates.roc(genuine, impostor, 200)
    assert 100 < len(drawn) <= 200
    assert drawn[0].fmr == 0
    assert (drawn[-1].fmr, drawn[-1].tar) == (1, 1)
    for point in drawn[:: len(drawn) // 7]:
        assert np.mean(genuine >= point.threshold) == point.tar
        assert np.mean(impostor >= point.threshold) == point.fmr


def test_a_rate_the_pairs_cannot_resolve_has_a_reason_and_no_number():
    read = rates.read_rates(np.ones(10), np.zeros(600), [0.01, 1e-4])
    assert set(read.nearest) == set(read.strict) == {0.01}
    assert read.unresolved == {1e-4: "FMR 0.0001 needs 10000 impostor scores, got 600: add pairs or raise the target"}


def test_a_whole_number_of_false_matches_is_not_lost_to_rounding():
    # 0.29 * 100 is 28.999999999999996
    impostor = np.arange(100) / 100
    assert np.count_nonzero(impostor >= rates.threshold_at_fmr(impostor, 0.29)) == 29
    assert rates.unresolved(1000, 1e-3) is None
    assert rates.unresolved(999, 1e-3) is not None


def test_without_genuine_or_impostor_pairs_there_is_a_reason():
    none, some = np.zeros(0), np.zeros(10)
    assert rates.read_rates(none, some, [0.1]).unresolved == {0.1: "there are no genuine pairs"}
    assert "got 0" in rates.read_rates(some, none, [0.1]).unresolved[0.1]
    with pytest.raises(ValueError, match="need genuine and impostor scores, got 0 and 10"):
        rates.nearest_points(none, some, [0.1])


@pytest.mark.parametrize("fmr", [0.0, -1e-3, 1.5])
def test_a_rate_outside_its_range_is_refused(fmr):
    with pytest.raises(ValueError, match="fraction in"):
        rates.unresolved(100, fmr)


def test_scores_that_are_not_numbers_are_refused():
    with pytest.raises(ValueError, match="NaN"):
        rates.roc(np.array([math.nan]), np.zeros(3))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_lowest_threshold_keeps_the_precision_of_the_scores(dtype):
    impostor = np.array([0.1, 0.3, 0.3, 0.2], dtype=dtype)
    threshold = rates.threshold_at_fmr(impostor, 0.25)
    assert np.count_nonzero(impostor >= dtype(threshold)) == 0
    assert np.count_nonzero(impostor >= np.nextafter(dtype(threshold), dtype(-1))) == 2
