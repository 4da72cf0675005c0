"""Scales from 0 to 100: shares of images that score lower, and bands that hold the scale of all people."""

from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.stats

from stages.core.metrics import quality_scale
from stages.core.metrics.quality_scale import Scale


def test_the_scale_is_the_share_of_images_that_score_lower() -> None:
    rng = np.random.default_rng(1)
    score_N = np.append(rng.gamma(2, size=5000), [-np.inf, np.nan])
    scale = quality_scale.of_scores(score_N, None)
    assert scale is not None
    assert scale.images == 5000
    asked_N = np.quantile(score_N[:5000], [0.003, 0.1, 0.5, 0.97])
    lower_N = np.array([np.mean(score_N[:5000] < one) for one in asked_N])
    assert scale.percent(asked_N) == pytest.approx(100 * lower_N, abs=0.5)
    assert scale.percent(np.array([-1.0, 1e9])).tolist() == [0, 100]
    assert (np.diff(scale.percent(np.sort(rng.gamma(2, size=99)))) >= 0).all()


def test_equal_scores_share_the_middle_of_their_percentiles() -> None:
    scale = quality_scale.of_scores(np.array([1.0, 1.0, 1.0, 2.0]), None)
    assert scale is not None
    # percentiles 0 to 74 of the worse ones, 75 to 100 of the best
    assert scale.percent(np.array([1.0, 2.0])).tolist() == [37.0, 87.5]


@pytest.mark.parametrize("known", [True, False])
def test_the_band_holds_the_scale_of_all_people_in_at_least_nine_of_ten_samples(known: bool) -> None:
    """Images of one person are alike, so bands over people are the wider ones."""
    rng = np.random.default_rng(2)
    held, widths = 0, []
    for _ in range(100):
        identity_N = np.repeat(np.arange(60), 5)
        spread = 1.0 if known else 0.0
        score_N = spread * rng.normal(size=60)[identity_N] + rng.normal(size=300)
        scale = quality_scale.of_scores(score_N, identity_N if known else None)
        assert scale is not None
        true_K = 100 * scipy.stats.norm.cdf(scale.score_K / np.hypot(spread, 1))
        held += np.abs(scale.percent_K - true_K).max() <= scale.within
        widths.append(scale.within)
    assert held >= 90, held
    # 300 independent images: sqrt(ln(40) / 600)
    assert (np.mean(widths) > 8.5) == known
    assert known or widths[0] == pytest.approx(100 * np.sqrt(np.log(40) / 600))


def test_what_the_set_cannot_resolve_is_said() -> None:
    constant = quality_scale.of_scores(np.full(9, 3.0), None)
    alone = quality_scale.of_scores(np.arange(200.0), np.zeros(200, np.int64))
    rounded = quality_scale.of_scores(np.repeat([1.0, 2.0, 3.0], 1000), None)
    assert constant is not None
    assert alone is not None
    assert rounded is not None
    assert constant.text("cr_fiqa", "lfw") == (
        "cr_fiqa from 0 to 100 is not resolved: all 9 images of lfw have the same score"
    )
    assert "known to within 100.0 points (95 % over 1 people)" in alone.text("cr_fiqa", "lfw")
    assert rounded.text("cr_fiqa", "lfw").endswith(
        "within 2.5 points (95 % over 3000 images); equal scores leave steps of up to 34 points"
    )
    assert quality_scale.of_scores(np.array([np.nan, -np.inf]), None) is None


def test_a_kept_scale_is_read_again_as_it_was() -> None:
    scale = quality_scale.of_scores(np.random.default_rng(0).normal(size=300).astype(np.float32), np.arange(300) // 3)
    assert scale is not None
    again = Scale.read(json.loads(json.dumps(scale.tree("m", "s"))))
    assert again.text("m", "s") == scale.text("m", "s")
    assert np.array_equal(again.score_K, scale.score_K)
    assert np.array_equal(again.percent_K, scale.percent_K)
