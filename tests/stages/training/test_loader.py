"""Loader processes: the same batches from any number of them, in memory that is the caller's own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import psutil
import pytest
import torch

from stages.training import loader
from stages.training.loader import Items

SHAPE = (2, 3, 4, 4, 3)
STEPS = [[(0, 3 * step + row) for row in range(3)] for step in range(12)]


def fill(image_VBHW3: np.ndarray, items: Items) -> np.ndarray:
    for row, (epoch, position) in enumerate(items):
        image_VBHW3[0, row], image_VBHW3[1, row] = position, epoch + 100
    return np.array([position * 10 for _, position in items])


def loaded(workers: int, steps: list[list[tuple[int, int]]] = STEPS) -> list[tuple[torch.Tensor, np.ndarray]]:
    return list(loader.batches(fill, iter(steps), SHAPE, workers))


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_come_in_order_and_stay_as_they_came(workers: int):
    # all are kept until the last is there: memory that is filled again must not be theirs
    for items, (image_VBHW3, label_B) in zip(STEPS, loaded(workers), strict=True):
        assert image_VBHW3.shape == SHAPE
        assert image_VBHW3.dtype == torch.uint8
        assert image_VBHW3[0, :, 0, 0, 0].tolist() == [position for _, position in items]
        assert (image_VBHW3[1] == 100).all()
        assert label_B.tolist() == [position * 10 for _, position in items]


@pytest.mark.parametrize("workers", [0, 2])
def test_no_step_gives_no_batch(workers: int):
    assert loaded(workers, []) == []


def test_processes_do_the_filling_and_end_with_the_last_batch():
    def fill_with_pid(image_VBHW3: np.ndarray, items: Items) -> np.ndarray:
        return np.full(len(items), os.getpid())

    before = set(psutil.Process().children())
    pids = {int(label_B[0]) for _, label_B in loader.batches(fill_with_pid, iter(STEPS), SHAPE, 2)}
    assert len(pids) == 2
    assert os.getpid() not in pids
    assert set(psutil.Process().children()) == before


def test_processes_end_when_no_more_batch_is_wanted():
    before = set(psutil.Process().children())
    batches: Iterator[object] = loader.batches(fill, iter(STEPS), SHAPE, 2)
    next(batches)
    assert len(set(psutil.Process().children()) - before) == 2
    del batches
    assert set(psutil.Process().children()) == before


@pytest.mark.parametrize("workers", [0, 1])
def test_what_is_wrong_with_an_image_is_said_as_it_is(workers: int):
    def fail(image_VBHW3: np.ndarray, items: Items) -> np.ndarray:
        raise ValueError(f"record {items[0][1]}: no image")

    with pytest.raises(ValueError, match=r"^record 0: no image$"):
        list(loader.batches(fail, iter(STEPS), SHAPE, workers))
