"""Kendall's tau against hand-worked numbers and against SciPy."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from stages.core.metrics.agreement import Pairs, chance, count_pairs, kendall_tau

values = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=9)


def test_tau_worked_by_hand_without_ties():
    # published 1 2 3 4 against measured 1 3 2 4: of 6 pairs only (2, 3) is turned round, (5 - 1) / 6
    assert kendall_tau(count_pairs([1, 2, 3, 4], [1, 3, 2, 4])) == pytest.approx(4 / 6)


def test_tau_worked_by_hand_with_ties():
    # left ties rows 1 and 2, right rows 2 and 3, rows 1 and 3 agree: (1 - 0) / sqrt((1 + 1) * (1 + 1))
    pairs = count_pairs([1, 1, 2], [1, 2, 2])
    assert pairs == Pairs(concordant=1, tied_left=1, tied_right=1)
    assert kendall_tau(pairs) == pytest.approx(0.5)


def test_same_order_is_one_and_the_reverse_is_minus_one():
    assert kendall_tau(count_pairs([1, 2, 3], [7, 8, 9])) == 1
    assert kendall_tau(count_pairs([1, 2, 3], [9, 8, 7])) == -1


def test_an_order_that_ties_everything_has_no_tau():
    assert kendall_tau(count_pairs([1, 2, 3], [5, 5, 5])) is None
    assert kendall_tau(Pairs()) is None
    assert chance([1, 2, 3], [5, 5, 5]) is None


def test_columns_are_pooled_pair_by_pair():
    # one column of three rows in the published order (3 concordant), one of two rows reversed (1 discordant)
    pooled = count_pairs([1, 2, 3], [1, 2, 3]) + count_pairs([1, 2], [2, 1])
    assert pooled.total == 4
    assert kendall_tau(pooled) == pytest.approx((3 - 1) / 4)


def test_chance_worked_by_hand():
    # of the 6 orders of three rows one has tau 1, and three have tau 1/3 or more
    assert chance([1, 2, 3], [1, 2, 3]) == pytest.approx(1 / 6)
    assert chance([1, 2, 3], [1, 3, 2]) == pytest.approx(3 / 6)
    assert chance(range(9), range(9)) is None


def test_values_that_cannot_be_ordered_are_refused():
    with pytest.raises(ValueError, match="two values for each row, got 2 and 3"):
        count_pairs([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="finite"):
        count_pairs([1, math.nan], [1, 2])


@given(values)
def test_tau_is_scipys_tau_b(rows: list[tuple[int, int]]):
    left, right = [row[0] for row in rows], [row[1] for row in rows]
    tau = kendall_tau(count_pairs(left, right))
    if tau is None:
        assert len(set(left)) == 1 or len(set(right)) == 1
    else:
        assert tau == pytest.approx(float(stats.kendalltau(left, right).statistic))


@given(values)
def test_every_pair_is_counted_once_and_sides_may_be_swapped(rows: list[tuple[int, int]]):
    left, right = [row[0] for row in rows], [row[1] for row in rows]
    pairs, swapped = count_pairs(left, right), count_pairs(right, left)
    assert pairs.total == len(rows) * (len(rows) - 1) // 2
    assert (pairs.tied_left, pairs.tied_right) == (swapped.tied_right, swapped.tied_left)
    assert kendall_tau(pairs) == kendall_tau(swapped)
