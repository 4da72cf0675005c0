"""Media and template pooling: the published loops, written plainly, are the reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.metrics.pooling import pool_templates


def plainly(feature_ND, template_N, media_N):
    embeddings = []
    for template in np.unique(template_N):
        of_template = template_N == template
        media = [
            feature_ND[of_template & (media_N == medium)].mean(axis=0, dtype=np.float64)
            for medium in np.unique(media_N[of_template])
        ]
        total = np.sum(media, axis=0)
        embeddings.append(total / np.linalg.norm(total))
    return np.array(embeddings)


def some_images(seed, num_images=40):
    rng = np.random.default_rng(seed)
    feature_ND = rng.normal(size=(num_images, 5)).astype(np.float32)
    return feature_ND, rng.integers(0, 7, num_images), rng.integers(0, 4, num_images)


@given(st.integers(0, 200))
def test_pooling_equals_the_published_loops(seed):
    feature_ND, template_N, media_N = some_images(seed)
    ids_T, embedding_TD, filled_T = pool_templates(feature_ND, template_N, media_N)
    assert ids_T.tolist() == sorted(set(template_N.tolist()))
    assert filled_T.all()
    np.testing.assert_allclose(embedding_TD, plainly(feature_ND, template_N, media_N), atol=1e-5)


@given(st.integers(0, 50), st.integers(0, 50))
def test_the_order_of_images_is_irrelevant(seed, order_seed):
    feature_ND, template_N, media_N = some_images(seed)
    order = np.random.default_rng(order_seed).permutation(len(feature_ND))
    _, embedding_TD, _ = pool_templates(feature_ND, template_N, media_N)
    _, shuffled_TD, _ = pool_templates(feature_ND[order], template_N[order], media_N[order])
    np.testing.assert_allclose(embedding_TD, shuffled_TD, atol=1e-6)


def test_a_template_with_one_image_is_that_image_at_unit_length():
    ids_T, embedding_TD, _ = pool_templates(np.array([[3.0, 4.0]]), np.array([9]), np.array([1]))
    assert ids_T.tolist() == [9]
    np.testing.assert_allclose(embedding_TD, [[0.6, 0.8]])


def test_a_long_video_weighs_no_more_than_a_still():
    feature_ND = np.array([[1.0, 0.0]] * 50 + [[0.0, 1.0]])
    _, embedding_TD, _ = pool_templates(feature_ND, np.zeros(51, np.int64), np.array([7] * 50 + [8]))
    np.testing.assert_allclose(embedding_TD, [[0.5**0.5, 0.5**0.5]])


def test_the_same_medium_in_two_templates_is_two_media():
    feature_ND = np.array([[1.0, 0.0], [0.0, 1.0]])
    _, embedding_TD, _ = pool_templates(feature_ND, np.array([1, 2]), np.array([5, 5]))
    np.testing.assert_allclose(embedding_TD, np.eye(2))


def test_an_image_that_failed_is_left_out_of_its_medium_and_not_taken_as_zero():
    feature_ND = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    _, embedding_TD, filled_T = pool_templates(
        feature_ND, np.zeros(3, np.int64), np.array([1, 1, 2]), np.array([True, False, True])
    )
    np.testing.assert_allclose(embedding_TD, [[0.5**0.5, 0.5**0.5]])
    assert filled_T.tolist() == [True]


def test_a_template_whose_images_all_failed_is_zero_and_told():
    feature_ND = np.array([[1.0, 0.0], [0.0, 0.0]])
    ids_T, embedding_TD, filled_T = pool_templates(
        feature_ND, np.array([1, 2]), np.array([1, 2]), np.array([True, False])
    )
    assert ids_T.tolist() == [1, 2]
    assert filled_T.tolist() == [True, False]
    np.testing.assert_allclose(embedding_TD, [[1, 0], [0, 0]])


def test_every_image_may_fail():
    _, embedding_TD, filled_T = pool_templates(np.zeros((2, 3)), np.array([1, 2]), np.array([1, 1]), np.zeros(2, bool))
    assert not filled_T.any()
    assert not embedding_TD.any()


def test_lengths_that_differ_are_refused():
    with pytest.raises(ValueError, match="2 features, 1 templates and 2 media"):
        pool_templates(np.zeros((2, 3)), np.array([1]), np.array([1, 1]))
