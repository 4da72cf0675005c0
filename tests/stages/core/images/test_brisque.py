"""BRISQUE against the package of that name (tests/golden/make_brisque.py)."""

from __future__ import annotations

import json

import numpy as np
import pytest

from stages.core.images import brisque
from tests.golden.make_brisque import KINDS, image
from tests.support import ROOT


@pytest.mark.parametrize("kind", KINDS)
def test_features_equal_the_packages(kind: str):
    wanted = json.loads((ROOT / "tests/golden/brisque.json").read_text())[kind]["features"]
    np.testing.assert_allclose(brisque.features(image(kind)[..., ::-1]), wanted, rtol=1e-6)


@pytest.mark.parametrize("value", [0, 128, 255])
def test_an_image_without_contrast_has_finite_features(value: int):
    assert np.isfinite(brisque.features(np.full((112, 112, 3), value, np.uint8))).all()


def test_a_one_sided_distribution_has_finite_features():
    for values in (np.array([1.0, 2.0, 3.0]), np.array([-1.0, -2.0, -3.0]), np.array([0.0, 0.0, 0.0])):
        assert np.isfinite(brisque.asymmetric_fit(values)).all()


def test_a_gaussian_is_recognised():
    values = np.random.default_rng(0).normal(0, 2, 200_000)
    shape, mean, left, right = brisque.asymmetric_fit(values)
    assert shape == pytest.approx(2, abs=0.03)
    assert (left, right) == (pytest.approx(4, rel=0.02), pytest.approx(4, rel=0.02))
    assert mean == pytest.approx(0, abs=0.02)


def test_a_regression_of_one_vector_is_its_kernel():
    ones_F = np.ones(36)
    regression = brisque.Regression(np.zeros((1, 36)), np.array([50.0]), 0.05, -20.0, -ones_F, ones_F)
    assert regression.score(np.zeros(36)) == pytest.approx(70)
    assert regression.score(0.5 * ones_F) == pytest.approx(20 + 50 * np.exp(-0.05 * 36 / 4))
