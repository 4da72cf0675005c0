"""Known quality: what is measured on an image follows the level it was taken down to."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.images.degrade import degrade, encode, enlarge, quality_of, sample, side_of
from stages.core.metrics.processing import decode
from stages.core.synthetic_faces.model import draw_identity, draw_shot
from stages.core.synthetic_faces.render import build_person, draw

LEVELS = (1.0, 0.8, 0.6, 0.4, 0.2, 0.0)


@pytest.fixture(scope="module")
def faces() -> list[np.ndarray]:
    images = []
    for k in range(6):
        identity = draw_identity(np.random.default_rng([3, k]))
        person = build_person(identity)
        images += [
            draw(person, draw_shot(np.random.default_rng([4, k, j]), identity)).image_HW3 for j in range(3)
        ]
    return images


def sharpness(image: np.ndarray) -> float:
    """Return the power of an image's finest details."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_64F).var())


def test_sharpness_falls_at_every_step_of_the_known_quality(faces: list[np.ndarray]):
    means = [
        np.mean([sharpness(degrade(face, level, np.random.default_rng(k))) for k, face in enumerate(faces)])
        for level in LEVELS
    ]
    assert all(better > 1.2 * worse for better, worse in pairwise(means))


def test_distance_from_the_clean_image_grows_at_every_step(faces: list[np.ndarray]):
    def damage(level: float, k: int) -> float:
        damaged = degrade(faces[k], level, np.random.default_rng(k)).astype(float)
        return float(np.abs(damaged - faces[k]).mean())

    means = [np.mean([damage(level, k) for k in range(len(faces))]) for level in LEVELS]
    assert means == sorted(means)
    assert means[0] < 2  # the best quality leaves an image nearly as it was


@given(st.floats(0, 1))
def test_side_and_quality_are_each_others_inverse(quality: float):
    assert quality_of(side_of(quality)) == pytest.approx(quality, abs=1e-9)
    assert 9 - 1e-9 <= side_of(quality) <= 112


def test_a_sample_has_the_resolution_its_quality_says(faces: list[np.ndarray]):
    for quality in LEVELS:
        small = sample(faces[0], quality, np.random.default_rng(0))
        assert small.shape == (round(side_of(quality)), round(side_of(quality)), 3)
    tall = np.repeat(faces[0], 2, axis=0)
    assert sample(tall, 0.5, np.random.default_rng(0)).shape == (63, 32, 3)


def test_the_same_stream_does_the_same_damage(faces: list[np.ndarray]):
    once, again, other = (degrade(faces[0], 0.4, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert np.array_equal(once, again)
    assert not np.array_equal(once, other)


def test_enlarging_to_the_same_size_changes_nothing(faces: list[np.ndarray]):
    assert np.array_equal(enlarge(faces[0], 112, 112, np.random.default_rng(0)), faces[0])


def test_decoding_bytes_come_back_as_the_image_in_natural_colours():
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 2] = 200  # OpenCV's order is blue, green, red
    packed = encode(red, 95)
    assert packed[:2] == b"\xff\xd8"
    assert np.abs(decode(packed).astype(int) - red).max() < 8
