"""QGFace's L view: what each draw keeps, and how often each operation comes."""

from __future__ import annotations

import io
from unittest import mock

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pil

from stages.core.images import low_view
from stages.core.images.augment import Image
from stages.core.images.low_view import Probabilities

NEVER = Probabilities(0, 0, 0, 0)
NUM_DRAWS = 2000


def picture() -> Image:
    coarse = np.random.default_rng(0).integers(0, 256, (28, 28, 3)).astype(np.uint8)
    return cv2.resize(coarse, (112, 112), interpolation=cv2.INTER_CUBIC)


def degraded(seed: int, probabilities: Probabilities = NEVER) -> Image:
    return low_view.degrade(picture(), probabilities, np.random.default_rng(seed))


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_a_low_view_keeps_shape_and_type_and_follows_from_its_generator(seed: int):
    always = Probabilities(1, 1, 1)
    first, second = degraded(seed, always), degraded(seed, always)
    assert np.array_equal(first, second)
    assert first.shape == (112, 112, 3)
    assert first.dtype == np.uint8


def test_resolution_is_lost_always():
    # the finest half of the spectrum needs more than 56 pixels; nearest pixels leave some of it as blocks
    energy = [np.abs(np.fft.fft2(image[:, :, 1]))[40:72, 40:72].sum() for image in (picture(), degraded(0))]
    assert energy[1] < energy[0]
    assert all(not np.array_equal(degraded(seed), picture()) for seed in range(30))


def drawn_arguments(function: str, probabilities: Probabilities) -> list[tuple[object, ...]]:
    """What a function of the module was called with, over many draws of a tiny image."""
    rng = np.random.default_rng(0)
    image = np.zeros((112, 112, 3), np.uint8)
    with mock.patch.object(low_view, "rescale", lambda image, *_: image):
        real = getattr(low_view, function)
        with mock.patch.object(low_view, function, side_effect=real) as called:
            for _ in range(NUM_DRAWS):
                low_view.degrade(image, probabilities, rng)
    return [call.args[1:] for call in called.call_args_list]


def test_sides_and_filters_are_drawn_evenly_over_the_published_ranges():
    rng = np.random.default_rng(0)
    with mock.patch.object(low_view, "rescale", side_effect=lambda image, *_: image) as rescale:
        for _ in range(NUM_DRAWS):
            low_view.degrade(picture(), NEVER, rng)
    drawn = [call.args[1:] for call in rescale.call_args_list]
    side_N = np.sort([side for side, _, _ in drawn])
    assert side_N[0] >= 0.1
    assert side_N[-1] < 0.5
    assert np.abs(side_N - np.linspace(0.1, 0.5, NUM_DRAWS)).max() < 0.4 * 0.04
    pairs, counts = np.unique([(int(down), int(up)) for _, down, up in drawn], axis=0, return_counts=True)
    assert len(pairs) == 25
    # 80 of each expected, give or take 9
    assert counts.min() > 50
    assert counts.max() < 115


@pytest.mark.parametrize(
    ("name", "function"), [("crop", "crop_and_scale"), ("photometric", "jitter"), ("rotation", "rotate"), ("flip", "mirror")]
)
def test_each_operation_is_drawn_as_often_as_its_probability_says(name: str, function: str):
    chances = Probabilities(**{"crop": 0.0, "photometric": 0.0, "rotation": 0.0, "flip": 0.0} | {name: 0.3})
    assert len(drawn_arguments(function, chances)) / NUM_DRAWS == pytest.approx(0.3, abs=0.04)


def test_angles_are_drawn_evenly_to_both_sides():
    angle_N = np.sort([angle for (angle,) in drawn_arguments("rotate", Probabilities(0, 0, 1, 0))])
    assert np.abs(angle_N - np.linspace(-45, 45, NUM_DRAWS)).max() < 90 * 0.04


def test_photometric_factors_stay_within_a_fifth_and_come_in_every_order():
    drawn = drawn_arguments("jitter", Probabilities(0, 1, 0, 0))
    factors = np.array([factors for factors, _ in drawn])
    assert factors.min() >= 0.8
    assert factors.max() <= 1.2
    assert np.abs(factors.mean(axis=0) - 1).max() < 0.01
    assert len({order for _, order in drawn}) == 6


@pytest.mark.parametrize("side", [1, 2, 7, 11, 16, 25, 33, 55, 112])
def test_compressed_pixels_equal_those_of_pillow(side: int):
    image = cv2.resize(picture(), (side, side), interpolation=cv2.INTER_AREA)
    stored = io.BytesIO()
    Pil.fromarray(image).save(stored, format="jpeg", quality=75)
    assert np.array_equal(low_view.compress(image), np.asarray(Pil.open(stored)))


def test_a_rotation_leaves_black_corners():
    turned = low_view.rotate(np.full((112, 112, 3), 200, np.uint8), 45)
    assert not turned[0, 0].any()
    assert (turned[56, 56] == 200).all()
