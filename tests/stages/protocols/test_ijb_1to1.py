"""IJB 1:1 against AdaFace's own numbers, and its three switches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stages.core.metrics import rates
from stages.core.metrics.pooling import pool_templates
from stages.protocols import ijb_1to1

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "ijb_1to1.npz") as arrays:
        return dict(arrays)


def pooled(*arrays):
    return ijb_1to1.Templates(*pool_templates(*arrays))


def compare(golden, order_P=slice(None)):
    ids = golden["template_ids"].astype(np.int64)
    return ijb_1to1.compare(
        pooled(golden["image_features"], ids, golden["media_ids"].astype(np.int64)),
        golden["pair_template_1"][order_P].astype(np.int64),
        golden["pair_template_2"][order_P].astype(np.int64),
    )


def test_template_features_are_those_of_the_published_script(golden):
    ids_T, embedding_TD, filled_T = pool_templates(
        golden["image_features"], golden["template_ids"].astype(np.int64), golden["media_ids"].astype(np.int64)
    )
    np.testing.assert_array_equal(ids_T, golden["unique_templates"])
    np.testing.assert_allclose(embedding_TD, golden["template_features"], atol=1e-6)
    assert filled_T.all()


def test_tar_at_each_far_is_the_published_one_exactly(golden):
    compared = compare(golden)
    is_same_P = golden["pair_label"] == 1
    points = rates.nearest_points(*compared.sides(is_same_P), golden["far"].tolist())
    assert [point.tar for point in points] == golden["tar"].tolist()


def test_the_order_of_pairs_is_irrelevant(golden):
    order_P = np.random.default_rng(0).permutation(golden["pair_label"].size)
    every_P = np.arange(order_P.size)
    np.testing.assert_array_equal(compare(golden).exact(order_P), compare(golden, order_P).exact(every_P))
    far = golden["far"].tolist()
    sides = [compare(golden, order).sides(golden["pair_label"][order] == 1) for order in (every_P, order_P)]
    assert rates.read_rates(*sides[0], far) == rates.read_rates(*sides[1], far)


def test_the_norm_switch_decides_whether_length_is_weight():
    feature_ND = np.array([[3.0, 0.0], [0.0, 1.0]], np.float32)
    np.testing.assert_allclose(ijb_1to1.weigh(feature_ND, use_norm=True), feature_ND)
    np.testing.assert_allclose(ijb_1to1.weigh(feature_ND, use_norm=False), [[1, 0], [0, 1]])


def test_the_detector_score_multiplies_what_the_norm_switch_left():
    feature_ND = np.array([[3.0, 0.0], [0.0, 1.0]], np.float32)
    score_N = np.array([0.5, 0.25], np.float32)
    np.testing.assert_allclose(
        ijb_1to1.weigh(feature_ND, use_norm=True, detector_score_N=score_N), [[1.5, 0], [0, 0.25]]
    )
    np.testing.assert_allclose(
        ijb_1to1.weigh(feature_ND, use_norm=False, detector_score_N=score_N), [[0.5, 0], [0, 0.25]]
    )


def test_a_template_whose_images_all_failed_matches_nobody_and_is_counted():
    feature_ND = np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]], np.float32)
    ids = np.array([1, 2, 3])
    templates = pooled(feature_ND, ids, ids, np.array([True, False, True]))
    assert ijb_1to1.compare(templates, np.array([1, 1]), np.array([2, 3])).score_P.tolist() == [-1, 1]
    assert templates.filled_T.tolist() == [True, False, True]


def test_a_search_list_may_name_a_template_without_images_and_gets_an_empty_one():
    ids = np.array([3, 5])
    embedding_PD, filled_P = pooled(np.eye(2, dtype=np.float32), ids, ids).rows(np.array([5, 4, 9, 3]))
    assert embedding_PD.tolist() == [[0, 1], [0, 0], [0, 0], [1, 0]]
    assert filled_P.tolist() == [True, False, False, True]


@pytest.mark.parametrize("missing", [0, 5, 99])
def test_a_pair_with_a_template_nobody_belongs_to_is_refused(missing):
    ids = np.array([1, 2, 7])
    with pytest.raises(LookupError, match=f"template {missing} is in the pairs but has no images"):
        ijb_1to1.compare(pooled(np.eye(3, dtype=np.float32), ids, ids), np.array([1, 2]), np.array([2, missing]))
