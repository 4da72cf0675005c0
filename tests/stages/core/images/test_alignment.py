"""Five landmarks onto the ArcFace template."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.images.alignment import TEMPLATE_52, align, similarity

angles = st.floats(-3.1, 3.1)
scales = st.floats(0.05, 20)
shifts = st.floats(-300, 300)


@given(angles, scales, shifts, shifts)
def test_a_similarity_is_found_exactly(angle, scale, shift_x, shift_y):
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    seen_52 = TEMPLATE_52 @ turn.T + [shift_x, shift_y]
    matrix = similarity(seen_52)
    np.testing.assert_allclose(seen_52 @ matrix[:, :2].T + matrix[:, 2], TEMPLATE_52, atol=1e-6)


@given(st.integers(0, 1000))
def test_the_fit_is_least_squares_over_rotation_scale_and_shift(seed):
    source_52 = TEMPLATE_52 + np.random.default_rng(seed).normal(0, 8, (5, 2))
    rows = [row for x, y in source_52 for row in ([x, -y, 1, 0], [y, x, 0, 1])]
    a, b, shift_x, shift_y = np.linalg.lstsq(np.array(rows), TEMPLATE_52.ravel(), rcond=None)[0]
    np.testing.assert_allclose(similarity(source_52), [[a, -b, shift_x], [b, a, shift_y]], atol=1e-8)


def test_a_mirrored_face_is_not_mirrored_back():
    matrix = similarity(TEMPLATE_52 * [-1, 1])
    assert np.linalg.det(matrix[:, :2]) > 0


@pytest.mark.parametrize("landmarks_52", [np.full((5, 2), 30.0), np.full((5, 2), np.nan)])
def test_landmarks_that_say_nothing_are_refused(landmarks_52):
    with pytest.raises(ValueError, match="five distinct landmarks"):
        similarity(landmarks_52)


def test_a_face_in_place_already_stays_as_it_is():
    image_HW3 = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    np.testing.assert_array_equal(align(image_HW3, TEMPLATE_52), image_HW3)


def test_what_lies_outside_is_black():
    aligned_HW3 = align(np.full((112, 112, 3), 255, np.uint8), TEMPLATE_52 - [40, 0])
    assert (aligned_HW3[:, :40] == 0).all()
    assert (aligned_HW3[:, 41:] == 255).all()


def test_pixels_are_close_to_exact_sampling_and_rounded_to_a_32nd_of_a_pixel():
    image_HW3 = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, (90, 70, 3), dtype=np.uint8), (0, 0), 3)
    landmarks_52 = TEMPLATE_52 * 0.55 + [4.3, 7.1]
    exact_HW3 = cv2.warpAffine(image_HW3.astype(np.float32), similarity(landmarks_52), (112, 112))
    aligned_HW3 = align(image_HW3, landmarks_52)
    inside = exact_HW3.min(axis=2) > 20
    assert np.abs(aligned_HW3[inside] - exact_HW3[inside]).max() < 2.5


def test_a_shift_below_a_64th_of_a_pixel_changes_nothing():
    image_HW3 = np.random.default_rng(2).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    np.testing.assert_array_equal(align(image_HW3, TEMPLATE_52 + 0.01), image_HW3)


def test_landmarks_a_hair_apart_are_refused_instead_of_overflowing():
    with pytest.raises(ValueError, match="too much"):
        align(np.zeros((50, 50, 3), np.uint8), TEMPLATE_52 * 1e6)
