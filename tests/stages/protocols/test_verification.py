"""Ten folds: bit-equal to AdaFace's evaluate on golden data, and to the loops written plainly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import KFold

from stages.protocols import verification

GOLDEN = Path(__file__).parents[2] / "golden"


def unit(feature_ND):
    return (feature_ND / np.linalg.norm(feature_ND, axis=1, keepdims=True)).astype(np.float32)


def some_pairs(seed, num_pairs, dim=4):
    rng = np.random.default_rng(seed)
    is_same_P = rng.random(num_pairs) < 0.5
    left = rng.normal(size=(num_pairs, dim))
    right = np.where(is_same_P[:, None], left + 0.7 * rng.normal(size=left.shape), rng.normal(size=left.shape))
    return unit(np.stack([left, right], axis=1).reshape(-1, dim)), is_same_P


def plainly(embedding_ND, is_same_P):
    distance_P = np.sum(np.square(embedding_ND[0::2] - embedding_ND[1::2]), 1)
    accuracies, thresholds, tprs, fprs = [], [], [], []
    for train, test in KFold(10, shuffle=False).split(distance_P):
        right = [np.mean((distance_P[train] < t) == is_same_P[train]) for t in verification.THRESHOLD_K]
        best = verification.THRESHOLD_K[int(np.argmax(right))]
        accuracies.append(np.mean((distance_P[test] < best) == is_same_P[test]))
        thresholds.append(best)
        said = distance_P[test] < verification.THRESHOLD_K[:, None]
        tprs.append((said & is_same_P[test]).sum(1) / max(is_same_P[test].sum(), 1))
        fprs.append((said & ~is_same_P[test]).sum(1) / max((~is_same_P[test]).sum(), 1))
    return accuracies, thresholds, np.mean(tprs, 0), np.mean(fprs, 0)


def test_everything_is_bit_equal_to_adafaces_evaluate():
    golden = np.load(GOLDEN / "verification.npz")
    folds = verification.evaluate(golden["embeddings"], golden["issame"])
    np.testing.assert_array_equal(folds.accuracy_F, golden["accuracy_per_fold"])
    np.testing.assert_array_equal(folds.threshold_F, golden["best_threshold_per_fold"])
    np.testing.assert_array_equal(folds.tpr_K, golden["tpr"])
    np.testing.assert_array_equal(folds.fpr_K, golden["fpr"])


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(10, 150))
def test_the_histogram_gives_what_the_plain_loops_give(seed, num_pairs):
    embedding_ND, is_same_P = some_pairs(seed, num_pairs)
    folds = verification.evaluate(embedding_ND, is_same_P)
    accuracies, thresholds, tpr_K, fpr_K = plainly(embedding_ND, is_same_P)
    np.testing.assert_array_equal(folds.accuracy_F, accuracies)
    np.testing.assert_array_equal(folds.threshold_F, thresholds)
    np.testing.assert_array_equal(folds.tpr_K, tpr_K)
    np.testing.assert_array_equal(folds.fpr_K, fpr_K)


def test_a_distance_exactly_on_the_grid_is_not_below_it():
    # squared distance 2: orthogonal
    embedding_ND = np.tile(np.array([[1, 0], [0, 1]], np.float32), (20, 1))
    folds = verification.evaluate(embedding_ND, np.ones(20, bool))
    at = int(np.searchsorted(verification.THRESHOLD_K, 2.0))
    assert verification.THRESHOLD_K[at] == 2.0
    assert (folds.tpr_K[at], folds.tpr_K[at + 1]) == (0, 1)


def test_chunks_do_not_change_a_bit():
    embedding_ND, _ = some_pairs(5, 2000, dim=512)
    expected_P = np.sum(np.square(np.subtract(embedding_ND[0::2], embedding_ND[1::2])), 1)
    np.testing.assert_array_equal(verification._squared_distances(embedding_ND), expected_P)


def test_a_genuine_pair_with_a_failed_image_is_an_error_and_an_impostor_pair_is_not():
    # a genuine and an impostor pair by turns, so that each fold has both
    embedding_ND = np.tile(np.array([[1, 0], [1, 0], [1, 0], [-1, 0]], np.float32), (10, 1))
    is_same_P = np.tile([True, False], 10)
    processed_N = np.ones(40, bool)
    assert verification.evaluate(embedding_ND, is_same_P, processed_N).accuracy == 1
    processed_N[[1, 2]] = False  # the first genuine and the first impostor pair
    folds = verification.evaluate(embedding_ND, is_same_P, processed_N)
    assert folds.accuracy_F.tolist() == [0.5] + [1] * 9
    cosine_P = verification.cosines(embedding_ND, processed_N)
    assert cosine_P[:4].tolist() == [-1, -1, 1, -1]


def test_collapsed_embeddings_are_no_better_than_chance():
    embedding_ND = np.tile(np.array([[1, 0]], np.float32), (200, 1))
    assert verification.evaluate(embedding_ND, np.tile([True, False], 50)).accuracy == 0.5


@pytest.mark.parametrize(("num_images", "num_pairs"), [(18, 9), (40, 10), (0, 0)])
def test_pairs_that_cannot_be_folded_are_refused(num_images, num_pairs):
    with pytest.raises(ValueError, match="10 folds need"):
        verification.evaluate(np.zeros((num_images, 2), np.float32), np.ones(num_pairs, bool))


def test_embeddings_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="NaN or infinity"):
        verification.evaluate(np.full((40, 2), np.nan, np.float32), np.ones(20, bool))


def best_by_trying(distance_P, is_same_P):
    """Every threshold that differs, lowest first."""
    candidates = np.concatenate([[distance_P.min()], np.nextafter(np.unique(distance_P), 9)])
    return max(np.mean((distance_P < threshold) == is_same_P) for threshold in candidates)


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(10, 120))
def test_no_threshold_is_better_than_the_exact_one(seed, num_pairs):
    embedding_ND, is_same_P = some_pairs(seed, num_pairs)
    distance_P = np.sum(np.square(embedding_ND[0::2] - embedding_ND[1::2]), 1).astype(np.float64)
    folds = verification.evaluate_exact(embedding_ND, is_same_P)
    for (train, test), accuracy, threshold in zip(
        KFold(10, shuffle=False).split(distance_P), folds.accuracy_F, folds.threshold_F, strict=True
    ):
        reached = np.mean((distance_P[train] < threshold) == is_same_P[train])
        assert reached == best_by_trying(distance_P[train], is_same_P[train])
        assert accuracy == np.mean((distance_P[test] < threshold) == is_same_P[test])


def test_the_exact_threshold_lies_between_two_distances_and_is_the_lowest_of_the_best():
    rising_P, is_same_P = np.array([0.2, 0.4, 0.9, 1.1]), np.array([True, True, False, False])
    assert verification._best_threshold(rising_P, is_same_P) == pytest.approx(0.65)
    # taking one or three is as good: the lowest counts
    assert verification._best_threshold(rising_P, np.array([True, False, True, False])) == pytest.approx(0.3)
    assert verification._best_threshold(rising_P, ~is_same_P) == 0.2
    # equal distances are taken or left together
    assert verification._best_threshold(np.array([0.2, 0.2, 0.3]), np.array([True, False, True])) > 0.3


def test_the_exact_threshold_is_as_good_as_the_grids_on_golden_data():
    golden = np.load(GOLDEN / "verification.npz")
    exact = verification.evaluate_exact(golden["embeddings"], golden["issame"])
    assert abs(exact.accuracy - golden["accuracy_per_fold"].mean()) < 0.01
    np.testing.assert_allclose(exact.threshold_F, golden["best_threshold_per_fold"], atol=0.06)


def test_folds_may_be_given_and_pairs_may_share_images():
    distance_P = np.array([0.1, 0.2, 3.0, 3.5, 0.3, 2.0], np.float32)
    is_same_P = np.array([True, True, False, False, True, False])
    fold_P = np.array([0, 1, 0, 1, 2, 2])
    # the first threshold of the grid that is best on the first two folds is 0.21: fold 2's genuine pair is above it
    assert verification.of_distances(distance_P, is_same_P, fold_P).accuracy_F.tolist() == [1, 1, 0.5]
    assert verification.of_distances_exact(distance_P, is_same_P, fold_P).accuracy_F.tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="at least two folds"):
        verification.of_distances(distance_P, is_same_P, np.zeros(6, int))
    with pytest.raises(ValueError, match="10 folds need at least as many pairs, got 6"):
        verification.of_distances(distance_P, is_same_P)


def test_distances_of_listed_pairs_are_those_of_pairs_side_by_side_to_the_last_bit():
    random = np.random.default_rng(0)
    embedding_ND = random.normal(size=(2000, 32)).astype(np.float32)
    processed_N = random.random(2000) > 0.1
    first_P = 2 * np.arange(1000)
    found_P = verification.distances(embedding_ND, first_P, first_P + 1, processed_N)
    np.testing.assert_array_equal(found_P, verification._distances(embedding_ND, 1000, processed_N))
