"""Methods that look at images alone, and OFIQ's scale of the norm."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from stages.core.images import brisque as of_core
from stages.core.metrics.features import Features
from stages.quality import brisque, feature_norm, sharpness


def face(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return cv2.resize(rng.integers(0, 256, (28, 28, 3), dtype=np.uint8), (112, 112), interpolation=cv2.INTER_CUBIC)


def slow_variance(image_HW3: np.ndarray) -> float:
    """The variance of the Laplacian, pixel by pixel; borders mirrored without their edge."""
    grey_HW = np.pad(cv2.cvtColor(image_HW3, cv2.COLOR_BGR2GRAY).astype(float), 1, mode="reflect")
    values = [
        grey_HW[y - 1, x] + grey_HW[y + 1, x] + grey_HW[y, x - 1] + grey_HW[y, x + 1] - 4 * grey_HW[y, x]
        for y in range(1, 113)
        for x in range(1, 113)
    ]
    return float(np.var(values))


def test_sharpness_is_the_logarithm_of_the_laplacians_variance():
    assert sharpness.Scorer().look(face()) == pytest.approx(np.log10(1 + slow_variance(face())), rel=1e-12)


def test_a_flat_image_has_no_sharpness():
    assert sharpness.Scorer().look(np.full((112, 112, 3), 90, np.uint8)) == 0


@pytest.mark.parametrize("seed", range(3))
def test_the_more_blur_the_less_sharpness(seed):
    blurred = [face(seed), *(cv2.GaussianBlur(face(seed), (0, 0), sigma) for sigma in (1, 2, 4, 8))]
    found = [sharpness.Scorer().look(image) for image in blurred]
    assert found == sorted(found, reverse=True)


def test_brisque_is_100_less_the_librarys_number():
    pytest.importorskip("scipy")
    try:
        scorer = brisque.Scorer()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    expected = 100 - scorer.regression.score(of_core.features(face()))
    assert scorer.look(face()) == expected
    assert np.isfinite(expected)


def test_brisque_without_its_numbers_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install"):
        brisque.Scorer()


def test_ofiqs_scale_is_a_rounded_sigmoid_around_23():
    norm_N = np.array([0.0, 15.2, 20.4, 23.0, 25.6, 30.8, 110.0], np.float32)
    scorer = feature_norm.Scorer(feature_norm.Config(scale="ofiq"))
    expected = [round(100 / (1 + np.exp(-(float(norm) - 23) / 2.6))) for norm in norm_N]
    assert scorer.score(Features(norm_N[:, None])).tolist() == expected
    assert expected == [0, 5, 27, 50, 73, 95, 100]
    assert scorer.module()(torch.from_numpy(norm_N[:, None])).tolist() == expected


def test_ofiqs_scale_rises_with_the_norm_and_has_101_values():
    norm_N = np.linspace(0, 60, 5000, dtype=np.float32)[:, None]
    score_N = feature_norm.Scorer(feature_norm.Config(scale="ofiq")).score(Features(norm_N))
    assert (np.diff(score_N) >= 0).all()
    assert set(score_N.tolist()) == set(range(101))


def test_ofiqs_scale_is_read_from_the_runs_folder(tmp_path):
    (tmp_path / "quality.json").write_text('{"name": "feature_norm", "scale": "ofiq", "backbone_sha256": "0"}')
    assert feature_norm.Scorer.load(tmp_path).config == feature_norm.Config(scale="ofiq")
