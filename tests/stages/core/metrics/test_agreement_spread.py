"""The interval of tau over seeds: against enumeration by hand, and what must hold of any."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core.metrics.agreement import Pairs
from stages.core.metrics.agreement_spread import NUM_DRAWS, Column, Interval, intervals, resolved_pairs


def test_two_rows_of_two_seeds_turn_round_in_one_draw_of_four():
    # n - 1 = 1 of 2 is drawn: 10 or 30 against 20 or 20, so tau is -1 in half of the draws
    found, overall = intervals([Column([[1], [2]], [[10, 30], [20, 20]], 2)])
    assert found == [Interval(-1, 1)]
    assert overall == Interval(-1, 1)


def test_one_seed_each_gives_no_interval():
    assert intervals([Column([[1], [2]], [[10], [20]], 2)]) == ([None], None)
    assert intervals([]) == ([], None)


def test_a_column_that_is_not_published_gives_none_and_leaves_the_others_alone():
    empty = Column([None, None, None], [[1, 9], [2, 8], [3, 7]], 2)
    apart = Column([[1], [2], [3]], [[1, 2], [3, 4], [5, 6]], 2)
    assert intervals([empty, apart]) == ([None, Interval(1, 1)], Interval(1, 1))


def test_all_columns_see_the_same_draw():
    # the second column is the first turned round: pooled, every draw has tau 0, which independent draws would not
    left = Column([[1], [2], [3]], [[1, 3], [2, 2.5], [1.5, 4]], 2)
    right = Column([[3], [2], [1]], left.right_RS, 2)
    assert intervals([left, right])[1] == Interval(0, 0)


def test_a_mean_of_n_minus_1_draws_has_the_variance_of_a_mean_of_n():
    values = np.array([1.0, 2.0, 6.0])
    drawn = np.random.default_rng(0).integers(0, 3, (200_000, 2))
    assert values[drawn].mean(axis=1).var() == pytest.approx(values.var(ddof=1) / 3, rel=0.02)


def test_values_that_are_shown_alike_tie():
    assert intervals([Column([[1], [2]], [[10.001, 10.002], [10.003, 10.004]], 2)]) == ([None], None)


@given(st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=4), min_size=2, max_size=6))
@settings(max_examples=25, deadline=None)
def test_an_interval_lies_within_minus_one_and_one_and_repeats(measured):
    column = Column([[r] for r in range(len(measured))], measured, 0)
    found = intervals([column])
    assert found == intervals([column])
    if found[1] is not None:
        assert -1 <= found[1].low <= found[1].high <= 1
    assert NUM_DRAWS * 0.05 >= 100  # each tail rests on at least that many draws


def test_resolved_pairs_worked_by_hand():
    # a 10..12, b 13..14, c 11..15, published a > b > c: (a, b) apart and reversed, (b, c) and (a, c) overlap
    assert resolved_pairs([[3], [2], [1]], [[10, 12], [13, 14], [11, 15]]) == Pairs(discordant=1, tied_right=2)
    assert resolved_pairs([[1], [1]], [[1, 2], [3, 4]]) == Pairs(tied_left=1)
    assert resolved_pairs([[1], [1]], [[1, 3], [2, 4]]) == Pairs(tied_both=1)


def test_equal_rows_are_told_apart_in_one_case_of_ten_by_three_seeds():
    generator = np.random.default_rng(1)
    found = [resolved_pairs([[1], [2]], generator.random((2, 3)).tolist()).tied_right for _ in range(4000)]
    assert 1 - np.mean(found) == pytest.approx(0.1, abs=0.015)


def test_both_sides_may_vary():
    # each side turns round in half of the draws, for itself: -1, 1
    swapping = [[10, 30], [20, 20]]
    assert intervals([Column(swapping, [[1], [2]], 2)])[1] == Interval(-1, 1)
    assert intervals([Column([[1, 2], [3, 4]], [[5, 6], [7, 8]], 2)])[1] == Interval(1, 1)
    assert resolved_pairs([[1, 3], [2, 4]], [[1, 2], [3, 4]]) == Pairs(tied_left=1)
