"""Discard curves on verification pairs: which thresholds, and what is said where pairs are too few."""

from __future__ import annotations

import numpy as np
import pytest

from stages.protocols import discard


def rows(num_pairs):
    return 2 * np.arange(num_pairs), 2 * np.arange(num_pairs) + 1


def some_pairs(num_pairs=2000, seed=0):
    rng = np.random.default_rng(seed)
    is_same_P = np.arange(num_pairs) % 2 == 0
    quality_N = rng.random(2 * num_pairs)
    quality_P = discard.pair_quality(quality_N, *rows(num_pairs))
    cosine_P = np.clip(rng.normal(0, 0.15, num_pairs) + is_same_P * quality_P, -1, 1)
    return cosine_P, is_same_P, quality_P


def test_a_pair_is_as_good_as_its_worse_image():
    quality_N = np.array([0.1, 0.9, 0.8, 0.3, -np.inf, 1])
    assert discard.pair_quality(quality_N, *rows(3)).tolist() == [0.1, 0.3, -np.inf]


def test_discarding_by_a_score_that_tells_lowers_fnmr_and_by_noise_does_not():
    cosine_P, is_same_P, quality_P = some_pairs()
    curves, _ = discard.measure(cosine_P, is_same_P, quality_P, [0.01])
    noise, _ = discard.measure(cosine_P, is_same_P, np.random.default_rng(1).random(quality_P.size), [0.01])
    assert curves[0.01].edc.pauc(0.5) < 0.8 * noise[0.01].edc.pauc(0.5)
    assert curves[0.01].erc.auc < 0.8 * noise[0.01].erc.auc


def test_the_iso_threshold_is_fixed_on_all_impostor_pairs_before_anything_is_discarded():
    cosine_P, is_same_P, quality_P = some_pairs()
    curves, _ = discard.measure(cosine_P, is_same_P, quality_P, [0.01])
    assert np.mean(cosine_P[~is_same_P] >= curves[0.01].threshold) == 0.01
    assert curves[0.01].edc.at(0) == np.mean(cosine_P[is_same_P] < curves[0.01].threshold)


def test_a_rate_the_impostor_pairs_cannot_resolve_gets_a_reason_and_no_curve():
    curves, reasons = discard.measure(*some_pairs(600), [0.01, 0.001])
    assert set(curves) == {0.01}
    assert reasons == {0.001: "FMR 0.001 needs 1000 impostor scores, got 300: add pairs or raise the target"}


def test_it_is_told_from_where_on_a_recomputed_threshold_is_coarser_than_its_name():
    curves, _ = discard.measure(*some_pairs(600), [0.01, 0.5])
    left_K = curves[0.01].erc.num_impostor_K
    until = curves[0.01].resolved_until
    assert left_K[round(until / 0.05)] >= 100 > left_K[round(until / 0.05) + 1]
    assert curves[0.5].resolved_until == pytest.approx(0.95)


def test_without_genuine_pairs_there_is_no_curve():
    with pytest.raises(ValueError, match="needs genuine pairs"):
        discard.measure(np.zeros(10), np.zeros(10, bool), np.zeros(10), [0.5])
