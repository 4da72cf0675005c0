"""Cuts on a quality score: equal to counting by hand, and to the rates of groups that are computed otherwise."""

from __future__ import annotations

import numpy as np
import pytest

from stages.core.metrics import curve_bands, group_rates, quality_cuts


def drawn(ties: bool, num: int = 400):
    """Pairs of neighbours of 30 people; the better the worse image, the more alike genuine ones."""
    rng = np.random.default_rng(0)
    score_N = rng.normal(size=2 * num)
    score_N = np.round(score_N, 1) if ties else score_N
    score_N[7] = -np.inf
    first_P, second_P = np.arange(0, 2 * num, 2), np.arange(1, 2 * num, 2)
    quality_P = np.minimum(score_N[first_P], score_N[second_P])
    is_same_P = np.arange(num) % 2 == 0
    cosine_P = np.where(is_same_P, np.clip(quality_P, -3, 3) / 3 + rng.normal(size=num), rng.normal(-1, 1, num))
    unit_P = rng.integers(0, 30, num)
    return score_N, quality_P, cosine_P, is_same_P, unit_P


@pytest.mark.parametrize("ties", [False, True])
def test_each_cut_is_what_the_pairs_left_give_by_another_way(ties: bool) -> None:
    score_N, quality_P, cosine_P, is_same_P, unit_P = drawn(ties)
    weight_BU = curve_bands.draw_weights(30)
    found = quality_cuts.cuts(score_N, quality_P, cosine_P, is_same_P, 0.5, unit_P, weight_BU)
    assert len(found) == 101
    for one in (found[0], found[1], found[6], found[51], found[81]):
        group_P = np.where(quality_P >= one.cut, 0, -1)
        kept, _ = group_rates.by_group(cosine_P, is_same_P, group_P, 0.5, unit_P, unit_P)
        assert (one.fnmr, one.low, one.high) == pytest.approx((kept.fnmr.value, kept.fnmr.low, kept.fnmr.high))
        assert one.fmr_left == pytest.approx(kept.fmr.value)
        assert one.images_dropped == np.mean(score_N < one.cut)
        assert one.genuine_dropped == pytest.approx(np.mean(group_P[is_same_P] == -1))
        assert one.less == pytest.approx(found[0].fnmr - one.fnmr)
    # a whole set has the image without a score, every cut drops it
    assert (found[0].images_dropped, found[1].images_dropped) == (0, 1 / 800)
    assert all(abs(one.images_dropped - one.percent / 100) < (0.06 if ties else 0.0025) for one in found[1:])


def test_four_images_by_hand() -> None:
    # pairs (0, 1) and (2, 3) are genuine; the pair of the worst image does not match
    score_N = np.array([1.0, 2.0, 3.0, 4.0])
    quality_P, cosine_P = np.array([1.0, 3.0, 2.0]), np.array([0.1, 0.9, 0.2])
    is_same_P = np.array([True, True, False])
    found = quality_cuts.cuts(score_N, quality_P, cosine_P, is_same_P, 0.5, np.array([0, 1, 0]), np.ones((200, 2)))
    assert [(one.cut, one.fnmr) for one in (found[0], found[25], found[26], found[51])] == [
        (-np.inf, 0.5), (1.0, 0.5), (2.0, 0.0), (3.0, 0.0),
    ]  # fmt: skip
    assert (found[26].genuine_dropped, found[26].images_dropped, found[26].people_left) == (0.5, 0.25, 1)
    # one person without an error says little: 1 - .025 ** (1 / 1)
    assert found[26].high == pytest.approx(0.975)
    assert np.isnan(found[76].fnmr)
    assert quality_cuts.smallest(found[1:], 0.4) is found[26]


def test_nothing_is_cut_where_nobody_has_a_score() -> None:
    none_N = np.full(4, -np.inf)
    assert quality_cuts.cuts(none_N, none_N[:2], np.ones(2), np.array([True, False]), 0.5, np.arange(2), np.ones((2, 2))) == []
