"""Bands of discard curves: hold the curve, know how much people vary, and are the same every time."""

from __future__ import annotations

import numpy as np
import pytest

from stages.core.metrics import curve_bands
from stages.core.metrics.discard_curves import ERC_DISCARD_K
from stages.protocols import discard


def people(seed, num_people=40, images_each=4, unlike=1.3):
    """All pairs of images of people; the worse an image, the further it lies from its person."""
    random = np.random.default_rng(seed)
    person_N = np.repeat(np.arange(num_people), images_each)
    quality_N = random.random(person_N.size)
    # some people are harder than others: what makes their pairs depend on one another
    hard_N = random.gamma(4, 0.25, num_people)[person_N]
    feature_ND = random.normal(size=(num_people, 24))[person_N]
    feature_ND += ((unlike - quality_N) * hard_N)[:, None] * random.normal(size=feature_ND.shape)
    feature_ND /= np.linalg.norm(feature_ND, axis=1, keepdims=True)
    first_P, second_P = np.triu_indices(person_N.size, 1)
    return curve_bands.Pairs(
        (feature_ND @ feature_ND.T)[first_P, second_P], person_N[first_P] == person_N[second_P],
        np.minimum(quality_N[first_P], quality_N[second_P]), person_N[first_P], person_N[second_P],
    )  # fmt: skip


def curves_of(pairs, *fmrs):
    curves, _ = discard.measure(pairs.score_P, pairs.is_same_P, pairs.quality_P, fmrs)
    return {
        fmr: {"cr_fiqa": curve.erc.fnmr_K, "iso": np.array([curve.edc.at(share) for share in ERC_DISCARD_K])}
        for fmr, curve in curves.items()
    }


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_pair_counted_once_gives_the_curves_themselves(seed, ties):
    pairs = people(seed)
    if ties:
        rounded = {"score_P": pairs.score_P.round(2), "quality_P": pairs.quality_P.round(1)}
        pairs = curve_bands.Pairs(**{**vars(pairs), **rounded})
    curves = curves_of(pairs, 1e-2, 1e-3)
    # one resample in which each was drawn once: its percentiles are the curve, and nothing has to be shifted
    once_BU = np.ones((1, 40), np.float32)
    step_P = curve_bands.dropping_steps(pairs.quality_P)
    genuine = curve_bands._Genuine.of(pairs, step_P, once_BU)
    total_BK = curve_bands._totals(pairs, step_P, once_BU)
    for fmr, found in curves.items():
        impostors = curve_bands._Impostors.of(pairs, step_P, once_BU, fmr, total_BK)
        np.testing.assert_allclose(curve_bands._moving(genuine, impostors)[1], found["cr_fiqa"], atol=1e-12)
        np.testing.assert_allclose(curve_bands._fixed(genuine, impostors)[1], found["iso"], atol=1e-12)


def test_a_band_holds_its_curve_and_is_the_same_every_time():
    pairs = people(3)
    curves = curves_of(pairs, 1e-2)
    found, again = (curve_bands.bands(pairs, curve_bands.draw_weights(40), curves)[1e-2] for _ in range(2))
    for convention, band in found.items():
        curve_K = curves[1e-2][convention]
        assert (band.low_K <= curve_K).all()
        assert (curve_K <= band.high_K).all()
        assert (band.high_K - band.low_K).max() > 0.02
        np.testing.assert_array_equal(band.high_K, again[convention].high_K)
        low, high = curve_bands.interval(band.area_B)
        assert low < np.trapezoid(curve_K, ERC_DISCARD_K) < high


def test_bands_over_people_hold_the_truth_about_as_often_as_they_say_and_bands_over_pairs_do_not():
    fmr, step, tried = 1e-2, 8, {"people": 40, "pairs": 10}
    truth = float(np.mean([curves_of(people(seed), fmr)[fmr]["iso"][step] for seed in range(1000, 1080)]))
    held = {"people": 0, "pairs": 0}
    for seed in range(40):
        pairs = people(seed)
        curves = {fmr: {"iso": curves_of(pairs, fmr)[fmr]["iso"]}}
        number_P = np.arange(pairs.score_P.size)
        alone = curve_bands.Pairs(pairs.score_P, pairs.is_same_P, pairs.quality_P, number_P, number_P)
        for over, chosen, units in (("people", pairs, 40), ("pairs", alone, number_P.size)):
            if seed < tried[over]:
                weight_BU = curve_bands.draw_weights(units, num_resamples=200 if over == "people" else 40)
                band = curve_bands.bands(chosen, weight_BU, curves)[fmr]["iso"]
                held[over] += bool(band.low_K[step] <= truth <= band.high_K[step])
    # of bands of 95 % one in a thousand times fewer than 33 of 40 would hold it
    assert held["people"] >= 33
    assert held["pairs"] <= 8


def test_without_any_error_left_the_band_says_how_few_people_that_rests_on():
    pairs = people(0, num_people=10, unlike=1.01)
    perfect = curve_bands.Pairs(**{**vars(pairs), "score_P": pairs.is_same_P + 0.001 * pairs.score_P})
    band = curve_bands.bands(perfect, curve_bands.draw_weights(10), curves_of(perfect, 1e-2))[1e-2]["iso"]
    assert band.low_K[0] == 0
    # ten people without an error: the rate among people is below 31 %, as one in forty of such samples has none
    assert band.high_K[0] == pytest.approx(1 - 0.025 ** (1 / 10))


def test_steps_at_which_nothing_is_left_have_no_band():
    pairs = people(1, num_people=4, images_each=2)
    curves = curves_of(pairs, 0.1)
    band = curve_bands.bands(pairs, curve_bands.draw_weights(4), curves)[0.1]["cr_fiqa"]
    gone_K = np.isnan(curves[0.1]["cr_fiqa"])
    assert gone_K.any()
    assert np.isnan(band.low_K[gone_K]).all()
    assert all(np.isnan(curve_bands.interval(band.area_B)))


def test_a_unit_without_a_weight_is_named():
    pairs = people(1)
    with pytest.raises(ValueError, match="weights of all 40 units, got 39"):
        curve_bands.bands(pairs, curve_bands.draw_weights(39), curves_of(pairs, 1e-2))


def test_thinning_large_sets_moves_a_band_little(monkeypatch):
    pairs = people(5, num_people=60)
    curves, weight_BU = curves_of(pairs, 1e-2), curve_bands.draw_weights(60)
    whole = curve_bands.bands(pairs, weight_BU, curves)[1e-2]
    for name, few in (("_MANY_GENUINE", 200), ("_MANY_TOP", 150), ("_MANY_LEFT", 5000)):
        monkeypatch.setattr(curve_bands, name, few)
    thinned = curve_bands.bands(pairs, weight_BU, curves)[1e-2]
    for convention in ("cr_fiqa", "iso"):
        for limit in ("low_K", "high_K"):
            difference = getattr(whole[convention], limit)[:10] - getattr(thinned[convention], limit)[:10]
            assert np.abs(difference).max() < 0.05
