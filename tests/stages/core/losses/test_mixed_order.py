"""Batches with a fixed share of each source: counts, passes, resumption, several ranks."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.losses.mixed_order import MixedOrder, counts_of

SOURCES = (np.arange(0, 10), np.arange(10, 40))


def order(rank: int = 0, world_size: int = 1, seed: int = 3, shares: tuple[float, float] = (1, 1)) -> MixedOrder:
    counts = counts_of(dict(zip("ab", shares, strict=True)), 8)
    return MixedOrder(40, 8, seed, rank, world_size, SOURCES, counts)


def test_every_batch_has_so_many_of_each_and_each_pass_shows_every_image_once():
    batches = list(order().batches(0, 15))
    assert all(Counter(position < 10 for _, position in batch) == {True: 4, False: 4} for batch in batches)
    seen = Counter(item for batch in batches for item in batch)
    assert set(seen.values()) == {1}
    # 60 images of each: six passes of ten, two of thirty
    assert {epoch for epoch, position in seen if position < 10} == set(range(6))
    assert Counter(position for epoch, position in seen if position < 10) == dict.fromkeys(range(10), 6)
    assert Counter(position for epoch, position in seen if position >= 10) == dict.fromkeys(range(10, 40), 2)


def test_each_pass_is_shuffled_anew():
    # five of the first source's ten a batch: every other batch begins a pass
    begun = list(order(shares=(5, 3)).batches(0, 12))[::2]
    assert len({frozenset(position for _, position in batch if position < 10) for batch in begun}) > 3


@given(st.integers(0, 30), st.integers(0, 10), st.sampled_from([1, 2, 4]))
def test_a_batch_follows_from_seed_and_step_for_any_beginning_and_any_number_of_ranks(first: int, more: int, ranks: int):
    whole = list(order().batches(0, first + more))[first:]
    parts = [list(order(rank, ranks).batches(first, first + more)) for rank in range(ranks)]
    assert [[item for part in parts for item in part[step]] for step in range(more)] == whole


def test_another_seed_is_another_order_and_a_batch_is_mixed_among_ranks():
    assert list(order(seed=4).batches(0, 3)) != list(order().batches(0, 3))
    firsts = [Counter(position < 10 for _, position in batch)[True] for batch in order(0, 2).batches(0, 40)]
    assert 1 < np.mean(firsts) < 3
    assert len(set(firsts)) > 1


def test_an_epoch_has_as_many_steps_as_without_shares():
    assert order().steps_per_epoch == 5


@given(st.lists(st.floats(0.05, 1), min_size=1, max_size=5), st.integers(100, 600))
def test_counts_fill_the_batch_and_are_within_one_of_the_shares(shares: list[float], size: int):
    counts = counts_of({str(number): share for number, share in enumerate(shares)}, size)
    assert sum(counts) == size
    assert all(abs(count - size * share / sum(shares)) < 1 for count, share in zip(counts, shares, strict=True))


def test_a_source_without_an_image_in_a_batch_is_refused():
    with pytest.raises(ValueError, match="shares: b would have no image in a batch of 8: raise its share or batch_size"):
        counts_of({"a": 1, "b": 0.001}, 8)
