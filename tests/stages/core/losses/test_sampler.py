"""The order of samples: shuffled, complete, and the same wherever one starts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.losses.sampler import Order, Streams

ORDERS = st.builds(Order, st.integers(1, 40), st.integers(1, 50), st.integers(0, 5))


@given(order=ORDERS, epochs=st.integers(1, 4), data=st.data())
def test_starting_later_gives_the_rest_of_the_same_batches(order: Order, epochs: int, data: st.DataObject):
    num_steps = epochs * order.steps_per_epoch
    whole = list(order.batches(0, num_steps))
    assert len(whole) == num_steps
    first = data.draw(st.integers(0, num_steps))
    assert list(order.batches(first, num_steps)) == whole[first:]


@given(order=ORDERS)
def test_an_epoch_takes_no_sample_twice_and_drops_less_than_a_batch(order: Order):
    taken = [position for batch in order.batches(0, order.steps_per_epoch) for _, position in batch]
    assert len(set(taken)) == len(taken)
    assert order.num_samples - len(taken) < order.size


@given(order=ORDERS)
def test_every_batch_is_whole(order: Order):
    assert {len(batch) for batch in order.batches(0, 3 * order.steps_per_epoch)} == {order.size}


def test_epochs_and_seeds_are_shuffled_differently():
    order = Order(50, 10, 0)
    assert not np.array_equal(order.shuffled(0), order.shuffled(1))
    assert not np.array_equal(order.shuffled(0), Order(50, 10, 1).shuffled(0))


KEYS = [(0, 0, 0, 1), (0, 0, 1, 1), (0, 1, 0, 1), (1, 0, 0, 1), (0, 0, 0, 2)]


def test_every_sample_epoch_seed_and_view_draws_numbers_of_its_own():
    drawn = {float(Streams(seed).at(*rest).random()) for seed, *rest in KEYS}
    assert len(drawn) == len(KEYS)


@given(before=st.lists(st.sampled_from(["random", "integers", "permutation"]), max_size=5))
def test_what_is_drawn_does_not_depend_on_what_was_drawn_before(before: list[str]):
    streams = Streams(3)
    rng = streams.at(1, 2)
    for draw in before:
        # a 32-bit draw leaves half a word behind
        rng.integers(7, dtype=np.int32) if draw == "integers" else getattr(rng, draw)(3)
    wanted = Streams(3).at(4, 5)
    rng = streams.at(4, 5)
    assert rng.integers(1000, dtype=np.int32) == wanted.integers(1000, dtype=np.int32)
    assert rng.random(8).tolist() == wanted.random(8).tolist()


def test_draws_of_neighbours_are_even_and_independent():
    streams = Streams(0)
    drawn_NK = np.array([streams.at(epoch, n).random(2) for epoch in (0, 1) for n in range(2000)])
    assert np.abs(np.sort(drawn_NK[:, 0]) - np.linspace(0, 1, 4000)).max() < 0.03
    first, second = drawn_NK[:2000, 0], drawn_NK[2000:, 0]
    for left, right in [(first, second), (first[1:], first[:-1]), tuple(drawn_NK.T)]:
        assert abs(np.corrcoef(left, right)[0, 1]) < 0.08


@given(num_samples=st.integers(1, 60), share=st.integers(1, 8), world_size=st.integers(1, 4), data=st.data())
def test_ranks_share_the_global_batches_of_one_process(
    num_samples: int, share: int, world_size: int, data: st.DataObject
):
    batch_size = share * world_size
    alone = Order(num_samples, batch_size, 3)
    if alone.size % world_size:
        with pytest.raises(ValueError, match="cannot be divided evenly"):
            Order(num_samples, batch_size, 3, 0, world_size)
        return
    ranks = [Order(num_samples, batch_size, 3, rank, world_size) for rank in range(world_size)]
    num_steps = 2 * alone.steps_per_epoch
    first = data.draw(st.integers(0, num_steps))
    parts = zip(*(rank.batches(first, num_steps) for rank in ranks), strict=True)
    assert [[*itertools.chain(*part)] for part in parts] == list(alone.batches(first, num_steps))
    assert {rank.local_size for rank in ranks} == {alone.size // world_size}


def test_a_batch_that_cannot_be_shared_evenly_says_what_to_do():
    with pytest.raises(ValueError, match=r"batch of 10 cannot be divided evenly among 4 .*batch_size a multiple"):
        Order(100, 10, 0, 0, 4)
    with pytest.raises(ValueError, match=r"batch of 6 \(6 samples in total\)"):
        Order(6, 8, 0, 0, 4)


def test_a_rank_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="wanted a rank from 0 to 1, got 2"):
        Order(100, 10, 0, 2, 2)
