"""Fusing an image with its flip: AdaFace's four ways on golden data, insightface's as the sum it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stages.core.metrics.features import Features, fuse, normalise

GOLDEN = Path(__file__).parents[3] / "golden"


@pytest.mark.parametrize(
    ("fusion", "published"),
    [
        ("pre_norm_sum", "pre_norm_vector_add"),
        ("norm_weighted_avg", "norm_weighted_avg"),
        ("average", "average"),
        ("concat", "concat"),
    ],
)
def test_direction_and_length_are_those_of_the_published_fusion(fusion, published):
    golden = np.load(GOLDEN / "search.npz")
    fused_ND = fuse(Features(*golden["f_features"]), fusion)
    # the published concat is of length sqrt 2, and whatever reads it normalises it first
    unit_ND = normalise(golden[f"f_{published}"])
    np.testing.assert_allclose(normalise(fused_ND), unit_ND, atol=3e-7)
    np.testing.assert_allclose(np.linalg.norm(fused_ND, axis=1), golden[f"f_{published}_norm"][:, 0], rtol=1e-6)


def test_insightfaces_sum_of_raw_features_is_the_pre_norm_sum():
    features = Features(*np.load(GOLDEN / "search.npz")["f_features"])
    added_ND = features.feature_ND + features.flipped_ND
    expected_ND = added_ND / np.linalg.norm(added_ND, axis=1, keepdims=True)
    np.testing.assert_allclose(normalise(fuse(features, "pre_norm_sum")), expected_ND, atol=1e-7)


def test_a_failed_image_stays_zero_in_every_fusion():
    features = Features(np.zeros((1, 4), np.float32), np.zeros((1, 4), np.float32))
    for fusion in ("none", "pre_norm_sum", "norm_weighted_avg", "average", "concat"):
        assert not fuse(features, fusion).any()


def test_a_flip_that_was_not_embedded_is_missed_by_name():
    with pytest.raises(ValueError, match="needs features of mirrored images"):
        fuse(Features(np.ones((1, 4), np.float32)), "average")
