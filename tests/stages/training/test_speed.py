"""Images per second, the share of waiting and peak memory, with a clock that the test moves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from stages.training import speed
from stages.training.speed import GIB, Speed


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def batches(clock: Clock, count: int, wait_s: float):
    for number in range(count):
        clock.now += wait_s
        yield number


def test_speed_counts_steps_with_their_waiting_and_not_what_is_between_them():
    clock = Clock()
    one = Speed(torch.device("cpu"), clock)
    laps = []
    for number in one.over(batches(clock, 4, 0.25), images=8):
        clock.now += 0.75  # the step
        if number == 1:
            laps.append(one.lap())
            clock.now += 100.0  # a validation
        if number == 3:
            clock.now += 1.0  # a slow step
            laps.append(one.lap())
    assert [(lap["images_per_s"], lap["data_wait"]) for lap in laps] == [(8.0, 0.25), (5.33, 0.1667)]
    summary = one.summary()
    assert (summary["images_per_s"], summary["data_wait"]) == (6.4, 0.2)
    assert summary["peak_device_memory_gib"] is None


def test_a_resumed_training_goes_on_with_the_sums_and_the_peak_of_its_checkpoint():
    clock = Clock()
    first, second = (Speed(torch.device("cpu"), clock) for _ in range(2))
    for _ in first.over(batches(clock, 2, 0.0), images=8):
        clock.now += 1.0
    second.load({**first.state(), "peaks_gib": {"peak_memory_gib": 5000.0}})
    for _ in second.over(batches(clock, 2, 0.0), images=8):
        clock.now += 3.0
    assert second.lap()["images_per_s"] == pytest.approx(16 / 6, abs=0.01)
    assert second.summary()["images_per_s"] == 4.0
    assert second.summary()["peak_memory_gib"] == 5000.0


def test_peak_memory_is_the_kernel_s_and_grows_with_what_is_held(tmp_path: Path):
    before = speed.peak_memory_bytes()
    held = np.ones(64 * 2**20, np.uint8)
    held[::4096] += 1
    assert speed.peak_memory_bytes() >= before
    assert 0.01 < speed.peak_memory_bytes() / GIB < 1000
    (tmp_path / "status").write_text("Name:\tpython\nVmHWM:\t   2048 kB\n")
    assert speed.peak_memory_bytes(tmp_path / "status") == 2 * 2**20
    assert speed.peak_memory_bytes(tmp_path / "none") == 0
