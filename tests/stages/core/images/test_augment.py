"""Augmentation: pixels against PIL, which the published code uses, and what every draw keeps."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pil
from PIL import ImageEnhance

from stages.core.images import augment
from stages.core.images.augment import Probabilities

SEEDS = st.integers(0, 2**32 - 1)
INTERPOLATIONS = st.sampled_from(augment.INTERPOLATIONS)


def picture(seed: int = 0) -> augment.Image:
    """A smooth picture with all levels: noise alone would hide what a resize does."""
    coarse = np.random.default_rng(seed).integers(0, 256, (14, 14, 3), np.uint8)
    return cv2.resize(coarse, (112, 112), interpolation=cv2.INTER_CUBIC)


def pil_enhanced(enhancer: type, factor: float) -> np.ndarray:
    # as published: blue, green, red handed over as if it were red, green, blue
    return np.asarray(enhancer(Pil.fromarray(picture())).enhance(factor))


ENHANCERS = [
    (augment.brighten, ImageEnhance.Brightness),
    (augment.change_contrast, ImageEnhance.Contrast),
    (augment.saturate, ImageEnhance.Color),
]


@pytest.mark.parametrize("factor", [0.0, 0.5, 0.77, 1.0, 1.31, 1.5, 4.0])
@pytest.mark.parametrize(("ours", "theirs"), ENHANCERS)
def test_photometric_operations_equal_the_published_pixels(
    ours: Callable[..., augment.Image], theirs: type, factor: float
):
    assert np.array_equal(ours(picture(), factor), pil_enhanced(theirs, factor))


@given(seed=SEEDS, factor=st.floats(0.5, 1.5), which=st.sampled_from(ENHANCERS))
@settings(max_examples=200)
def test_photometric_operations_equal_the_published_pixels_for_any_image_and_factor(
    seed: int, factor: float, which: tuple[Callable[..., augment.Image], type]
):
    noise = np.random.default_rng(seed).integers(0, 256, (60, 60, 3)).astype(np.uint8)
    wanted = np.asarray(which[1](Pil.fromarray(noise)).enhance(factor))
    assert np.array_equal(which[0](noise, factor), wanted)


def test_a_crop_keeps_its_place_on_black():
    image = picture()
    pasted = augment.paste_crop(image, 10, 20, 30, 40)
    assert np.array_equal(pasted[10:40, 20:60], image[10:40, 20:60])
    pasted[10:40, 20:60] = 0
    assert not pasted.any()


@given(seed=SEEDS)
def test_a_drawn_crop_lies_inside_and_keeps_area_and_aspect(seed: int):
    top, left, height, width = augment.draw_crop(112, 112, np.random.default_rng(seed))
    assert top >= 0
    assert left >= 0
    assert top + height <= 112
    assert left + width <= 112
    # sides are rounded to whole pixels
    assert 0.19 <= height * width / 112**2 <= 1
    assert 0.73 <= width / height <= 1.37


def test_crops_are_drawn_evenly_over_the_published_range_of_areas():
    rng = np.random.default_rng(0)
    shares = np.array([np.prod(augment.draw_crop(112, 112, rng)[2:]) / 112**2 for _ in range(4000)])
    # near 1 some draws do not fit and are drawn again
    expected = np.linspace(0.2, 0.8, 7)
    measured = [(shares < share).mean() for share in expected]
    ideal = (expected - 0.2) / 0.8
    assert np.abs(np.array(measured) / measured[-1] - ideal / ideal[-1]).max() < 0.03


@given(side=st.floats(0.2, 1), down=INTERPOLATIONS, up=INTERPOLATIONS)
@settings(max_examples=40)
def test_low_resolution_keeps_the_shape(side: float, down: int, up: int):
    reduced = augment.reduce_resolution(picture(), side, down, up)
    assert reduced.shape == (112, 112, 3)
    assert reduced.dtype == np.uint8


def test_low_resolution_takes_away_what_is_fine():
    checkers = np.indices((112, 112)).sum(axis=0) % 2 * 255
    image = np.repeat(checkers[:, :, None], 3, axis=2).astype(np.uint8)
    reduced = augment.reduce_resolution(image, 0.25, cv2.INTER_AREA, cv2.INTER_LINEAR)
    assert reduced.std() < 0.1 * image.std()


@given(seed=SEEDS)
@settings(max_examples=40)
def test_the_same_generator_gives_the_same_image(seed: int):
    always = Probabilities(0.5, 0.5, 0.5)
    first, second = (augment.augment(picture(), always, np.random.default_rng(seed)) for _ in range(2))
    assert np.array_equal(first, second)
    assert first.shape == (112, 112, 3)
    assert first.dtype == np.uint8


@given(seed=SEEDS)
@settings(max_examples=20)
def test_the_image_given_is_never_written_to(seed: int):
    image = picture()
    augment.augment(image, Probabilities(1, 1, 1), np.random.default_rng(seed))
    assert np.array_equal(image, picture())


def test_without_probability_nothing_but_the_flip_happens():
    image = picture()
    never = Probabilities(0, 0, 0)
    seen = {augment.augment(image, never, np.random.default_rng(seed)).tobytes() for seed in range(40)}
    assert seen == {image.tobytes(), image[:, ::-1].tobytes()}


@pytest.mark.parametrize("name", ["crop", "low_res", "photometric", "flip"])
def test_each_operation_is_drawn_as_often_as_its_probability_says(name: str):
    image = picture()
    chances = Probabilities(**{"crop": 0.0, "low_res": 0.0, "photometric": 0.0, "flip": 0.0} | {name: 0.3})
    rng = np.random.default_rng(0)
    changed = np.mean([augment.augment(image, chances, rng) is not image for _ in range(3000)])
    assert changed == pytest.approx(0.3, abs=0.03)


def test_operations_are_drawn_independently():
    rng = np.random.default_rng(0)
    image = picture()
    both = Probabilities(0.5, 0.0, 0.0, 0.5)
    untouched = np.mean([augment.augment(image, both, rng) is image for _ in range(3000)])
    assert untouched == pytest.approx(0.25, abs=0.03)
