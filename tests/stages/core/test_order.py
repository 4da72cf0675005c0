"""The order of samples: shuffled, complete, and the same wherever one starts."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stages.core.order import Order, augmentation_rng

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


def test_every_sample_and_epoch_draws_from_its_own_generator():
    draws = {float(augmentation_rng(*key).random()) for key in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]}
    assert len(draws) == 4
    assert augmentation_rng(3, 4, 5).random() == augmentation_rng(3, 4, 5).random()
