"""Both discard conventions; CR-FIQA's steps written plainly, and numbers of its own code and of dasec's, are the reference."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.metrics import discard_curves
from stages.core.metrics.discard_curves import ERC_DISCARD_K, EdcCurve, edc_curve, erc_curve

GOLDEN = Path(__file__).parents[3] / "golden"


def plainly(score_P, is_same_P, quality_P, fmr):
    """One FNMR per step as roc.py and erc.py define it, trying every score as threshold."""
    order = np.argsort(quality_P, kind="stable")
    fnmrs = []
    for share in ERC_DISCARD_K:
        kept = order[int(share * score_P.size) :]
        genuine, impostor = score_P[kept][is_same_P[kept]], score_P[kept][~is_same_P[kept]]
        if not genuine.size or not impostor.size:
            fnmrs.append(math.nan)
            continue
        thresholds = np.unique(np.r_[genuine, impostor])
        fmrs = np.array([np.count_nonzero(impostor >= threshold) for threshold in thresholds]) / impostor.size
        threshold = thresholds[np.argmin(np.abs(fmrs - fmr))]
        fnmrs.append(1 - np.count_nonzero(genuine > threshold) / genuine.size)
    return np.array(fnmrs)


@given(st.integers(0, 10_000), st.integers(1, 120), st.sampled_from([1, 2, 6]), st.sampled_from([1e-3, 0.01, 0.3]))
def test_the_fast_curve_is_the_plain_one_even_with_ties(seed, num_pairs, decimals, fmr):
    rng = np.random.default_rng(seed)
    is_same_P = rng.random(num_pairs) < 0.5
    score_P = (rng.normal(size=num_pairs) + is_same_P).round(decimals)
    quality_P = rng.random(num_pairs).round(decimals)
    curve = erc_curve(score_P, is_same_P, quality_P, [fmr])[fmr]
    np.testing.assert_array_equal(curve.fnmr_K, plainly(score_P, is_same_P, quality_P, fmr))


def test_erc_equals_cr_fiqas_own_numbers():
    pairs, golden = np.load(GOLDEN / "verification.npz"), np.load(GOLDEN / "edc.npz")
    left, right = pairs["embeddings"][0::2].astype(np.float64), pairs["embeddings"][1::2].astype(np.float64)
    cosine_P = np.sum(left * right, axis=1) / (np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1))
    quality_P = np.minimum(golden["quality"][0::2], golden["quality"][1::2])
    curves = erc_curve(cosine_P, pairs["issame"], quality_P, [1e-2, 1e-3, 1e-4])
    np.testing.assert_array_equal(ERC_DISCARD_K, golden["discard"])
    for fmr, name in ((1e-2, "1e2"), (1e-3, "1e3"), (1e-4, "1e4")):
        np.testing.assert_array_equal(curves[fmr].fnmr_K, golden[f"fnmr_at_fmr_{name}"])
        assert curves[fmr].auc == golden[f"auc_{name}"]


def test_both_conventions_equal_their_authors_numbers_on_one_set():
    golden = json.loads((GOLDEN / "discard.json").read_text())
    score_P = -np.array(golden["pairs"]["distance"])
    is_same_P = np.array(golden["pairs"]["genuine"]) == 1
    quality_P = np.array(golden["pairs"]["quality"])
    for fmr, curve in erc_curve(score_P, is_same_P, quality_P, [0.01, 0.001, 0.0001]).items():
        assert curve.fnmr_K.tolist() == golden["crfiqa_erc"][f"fnmr@{fmr}"]
        assert curve.auc == golden["crfiqa_erc"][f"auc@{fmr}"]
    dasec = golden["dasec_edc_genuine_fnmr10pct"]
    similarity_G = 1 + score_P[is_same_P]
    threshold = np.quantile(similarity_G, 0.1)
    assert threshold == dasec["threshold"]
    curve = edc_curve(similarity_G < threshold, quality_P[is_same_P])
    assert curve.error_K.size == dasec["len"]
    np.testing.assert_allclose(curve.error_K[:5], dasec["error_fractions_first5"], rtol=1e-14)
    np.testing.assert_allclose(curve.discard_K[:5], dasec["discard_first5"], rtol=1e-14)
    assert curve.pauc(0.2) == pytest.approx(dasec["pauc.2"], rel=1e-12)
    assert curve.best_pauc(0.2) == pytest.approx(dasec["best.2"], rel=1e-12)
    assert curve.pauc(1) == pytest.approx(dasec["pauc1"], rel=1e-12)


@given(st.integers(0, 1000))
def test_the_order_of_pairs_is_irrelevant_where_no_qualities_tie(seed):
    rng = np.random.default_rng(seed)
    is_same_P = rng.random(200) < 0.5
    score_P, quality_P, order_P = rng.normal(size=200) + is_same_P, rng.permutation(200) / 200, rng.permutation(200)
    curve = erc_curve(score_P, is_same_P, quality_P, [0.05])[0.05]
    shuffled = erc_curve(score_P[order_P], is_same_P[order_P], quality_P[order_P], [0.05])[0.05]
    np.testing.assert_array_equal(curve.fnmr_K, shuffled.fnmr_K)
    error_P = score_P < 0
    np.testing.assert_array_equal(
        edc_curve(error_P, quality_P).error_K, edc_curve(error_P[order_P], quality_P[order_P]).error_K
    )


def test_equal_qualities_drop_together_on_the_iso_curve_whatever_their_order():
    curve = edc_curve(np.array([True, False, True, False]), np.array([0.1, 0.1, 0.5, 0.9]))
    assert curve.discard_K.tolist() == [0, 0.5, 0.75, 1]
    assert curve.error_K.tolist() == [0.5, 0.5, 0, 0]
    turned = edc_curve(np.array([False, True, True, False]), np.array([0.1, 0.1, 0.5, 0.9]))
    assert turned.error_K.tolist() == curve.error_K.tolist()


def test_a_quality_that_knows_the_errors_comes_near_the_theoretical_best():
    error_P = np.arange(1000) < 100
    curve = edc_curve(error_P, np.arange(1000) / 1000)
    assert curve.pauc(0.2) == pytest.approx(curve.best_pauc(0.2), rel=0.1)
    worst = edc_curve(error_P, -np.arange(1000) / 1000)
    assert worst.pauc(0.2) > 0.1 * 0.2 > curve.pauc(0.2)


def test_a_step_function_is_read_from_the_left():
    curve = EdcCurve(np.array([0, 0.5, 1.0]), np.array([0.4, 0.2, 0.0]))
    assert [curve.at(share) for share in (0, 0.49, 0.5, 0.99, 1.0)] == [0.4, 0.4, 0.2, 0.2, 0.0]
    assert curve.pauc(0.6) == pytest.approx(0.4 * 0.5 + 0.2 * 0.1)
    assert curve.pauc(1.0) == pytest.approx(0.3)


def test_a_step_without_impostor_pairs_has_no_number():
    is_same_P = np.array([True, False, True, True])
    curve = erc_curve(np.array([0.9, 0.1, 0.8, 0.7]), is_same_P, np.array([0.5, 0.1, 0.6, 0.7]), [0.5])[0.5]
    assert not math.isnan(curve.fnmr_K[0])
    assert math.isnan(curve.fnmr_K[-1])
    assert math.isnan(curve.auc)
    assert curve.num_impostor_K[-1] == 0


def test_images_that_failed_go_first():
    quality_P = np.array([-np.inf, 0.5, 0.6, 0.7])
    curve = edc_curve(np.array([True, False, False, False]), quality_P)
    assert curve.error_K.tolist() == [0.25, 0, 0, 0, 0]


def test_a_pair_without_a_quality_is_refused():
    score_P, is_same_P = np.zeros(3), np.array([True, False, True])
    with pytest.raises(ValueError, match="3 and 3 with 1 NaN"):
        erc_curve(score_P, is_same_P, np.array([0.1, np.nan, 0.2]), [0.1])
    with pytest.raises(ValueError, match="got 3, 3 and 2"):
        erc_curve(score_P, is_same_P, np.zeros(2), [0.1])
    with pytest.raises(ValueError, match="or one is NaN"):
        edc_curve(is_same_P, np.array([0.1, np.nan, 0.2]))
    with pytest.raises(ValueError, match="got 0"):
        edc_curve(np.zeros(0, bool), np.zeros(0))


def test_the_highest_impostor_scores_give_what_all_of_them_give(monkeypatch):
    rng = np.random.default_rng(0)
    for tied, against in ((False, 0.0), (True, 0.0), (False, 0.9)):
        is_same_P = rng.random(3000) < 0.2
        score_P = rng.normal(size=3000) + is_same_P
        score_P = np.round(score_P, 1) if tied else score_P
        # `against`: what scores high is dropped first, so that the highest of all do not do
        quality_P = rng.random(3000) - against * score_P
        quality_P = np.round(quality_P, 1) if tied else quality_P
        with monkeypatch.context() as patch:
            patch.setattr(discard_curves, "_SPARE", 10**6)
            whole = discard_curves.erc_curve(score_P, is_same_P, quality_P, (0.01, 0.001))
        part = discard_curves.erc_curve(score_P, is_same_P, quality_P, (0.01, 0.001))
        for fmr in (0.01, 0.001):
            np.testing.assert_array_equal(part[fmr].fnmr_K, whole[fmr].fnmr_K)
            np.testing.assert_array_equal(part[fmr].num_impostor_K, whole[fmr].num_impostor_K)
