"""What every quality method promises, and that CR-FIQA's layer is the best one."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from stages.core.losses import classifiability
from stages.core.metrics.features import Features
from stages.core.metrics.quality import Learned, Material
from stages.runtime import plugins

# its scores stand in a file, by the names of images: tests/stages/tools/test_judge.py
NAMED = ("scores_file",)
# it needs a network whose layers it chooses: tests/stages/quality/test_froq.py
OF_LAYERS = ("froq",)
METHODS = [name for name in plugins.names("quality") if name not in (*NAMED, *OF_LAYERS)]
# their scores stand in Features.seen: tests/stages/embedding/test_scoring_embedder.py has their images
LOOKING = ("brisque", "ser_fiq", "sharpness")
OF_FEATURES = [name for name in METHODS if name not in LOOKING]
# fields that a method wants beyond its name
EXTRA: dict[str, dict[str, Any]] = {"cr_fiqa": {"target": "paper"}}


def config(name: str, **fields: Any) -> Any:
    return plugins.load("quality", name).Config.model_validate({"name": name} | EXTRA.get(name, {}) | fields)


def material(num: int = 400) -> Material:
    """Features of five classes; the farther from its centre, the longer its first coordinate."""
    rng = np.random.default_rng(0)
    centre_CD = torch.from_numpy(rng.normal(size=(5, 8)).astype(np.float32))
    label_N = torch.from_numpy(rng.integers(0, 5, num))
    noise_N1 = torch.from_numpy(rng.uniform(0, 3, (num, 1)).astype(np.float32))
    away_ND = torch.from_numpy(rng.normal(size=(num, 8)).astype(np.float32))
    feature_ND = centre_CD[label_N] + noise_N1 * away_ND
    feature_ND[:, 0] = 10 * noise_N1[:, 0]
    layer = {"weight": torch.from_numpy(rng.normal(size=(1, 8)).astype(np.float32)), "bias": torch.zeros(1)}
    return Material(feature_ND, label_N, centre_CD, layer)


def features_of(feature_ND: np.ndarray, flipped_ND: np.ndarray | None = None) -> Features:
    """Features as an embedder gives them that lets methods look."""
    seen = {name: np.linspace(0, 1, len(feature_ND), dtype=np.float32) for name in LOOKING}
    return Features(feature_ND, flipped_ND, seen)


def trained(name: str, folder: Path, **fields: Any) -> Any:
    if name == "brisque" and importlib.util.find_spec("brisque") is None:
        pytest.skip("the package brisque, whose trained numbers are read, is not installed")
    module = plugins.load("quality", name)
    learned: Learned = module.train(config(name, **fields), material())
    if learned.weights:
        torch.save(dict(learned.weights), folder / "weights.pt")
    return module.Scorer.load(folder), learned


@pytest.mark.parametrize("name", METHODS)
def test_a_method_gives_one_finite_float32_per_image(name: str, tmp_path: Path):
    scorer, learned = trained(name, tmp_path)
    feature_ND = material().feature_ND.numpy()
    score_N = scorer.score(features_of(feature_ND))
    assert score_N.shape == (400,)
    assert score_N.dtype == np.float32
    assert np.isfinite(score_N).all()
    assert all(np.isfinite(value) for value in learned.metrics.values())


@pytest.mark.parametrize("name", METHODS)
def test_the_flip_has_no_say(name: str, tmp_path: Path):
    scorer, _ = trained(name, tmp_path)
    feature_ND = material().feature_ND.numpy()
    with_flip = scorer.score(features_of(feature_ND, feature_ND[::-1].copy()))
    assert np.array_equal(with_flip, scorer.score(features_of(feature_ND)))


@pytest.mark.parametrize("name", OF_FEATURES)
def test_as_a_network_it_gives_the_same_scores(name: str, tmp_path: Path):
    scorer, _ = trained(name, tmp_path)
    feature_ND = material().feature_ND
    with torch.no_grad():
        score_N = scorer.module()(feature_ND).numpy()
    np.testing.assert_allclose(score_N, scorer.score(Features(feature_ND.numpy())), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_says_how_many_images_it_learns_from(name: str):
    assert 0 <= config(name).num_images(1000) <= 1000


@pytest.mark.parametrize("name", LOOKING)
def test_a_method_that_looks_says_so_where_nobody_has_let_it(name: str, tmp_path: Path):
    scorer, _ = trained(name, tmp_path)
    with pytest.raises(LookupError, match="needs the images"):
        scorer.score(Features(np.ones((2, 4), np.float32)))


def test_feature_norm_is_the_norm(tmp_path: Path):
    scorer, _ = trained("feature_norm", tmp_path)
    assert scorer.score(Features(np.array([[3.0, 4.0]], np.float32))).tolist() == [5.0]


def test_cr_fiqa_scores_rank_images_as_their_targets_do(tmp_path: Path):
    scorer, learned = trained("cr_fiqa", tmp_path)
    given = material()
    score_N = scorer.score(Features(given.feature_ND.numpy()))
    target_N = plugins.load("quality", "cr_fiqa").targets(config("cr_fiqa"), given).numpy()
    assert np.corrcoef(score_N, target_N)[0, 1] > 0.5
    assert learned.metrics["explained_variance"] > 0.25


@pytest.mark.parametrize("form", ["paper", "vit_fiqa"])
def test_no_step_away_from_cr_fiqas_layer_is_better(form: str, tmp_path: Path):
    scorer, learned = trained("cr_fiqa", tmp_path, target=form)
    given = material()
    target_N = plugins.load("quality", "cr_fiqa").targets(config("cr_fiqa", target=form), given)
    score_N = torch.from_numpy(scorer.score(Features(given.feature_ND.numpy())))
    best = classifiability.loss(score_N, target_N, 0.5)
    assert float(best) == pytest.approx(learned.metrics["loss"], rel=1e-4)
    weight, bias = learned.weights["weight"].clone().requires_grad_(), learned.weights["bias"]
    predicted_N = functional.linear(given.feature_ND, weight, bias)[:, 0]
    classifiability.loss(predicted_N, target_N, 0.5).backward()
    assert float(weight.grad.abs().max()) < 1e-4


def test_cr_fiqa_takes_views_up_to_its_limit():
    assert config("cr_fiqa", views=3).num_images(100) == 300
    assert config("cr_fiqa", views=3, max_images=250).num_images(100) == 250


def test_cr_fiqa_refuses_features_that_are_not_finite():
    given = material()
    given.feature_ND[0, 0] = torch.nan
    with pytest.raises(ValueError, match="targets are not finite"):
        plugins.load("quality", "cr_fiqa").train(config("cr_fiqa"), given)


def test_cr_fiqa_without_weights_says_which_stage_writes_them(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="train_quality"):
        plugins.load("quality", "cr_fiqa").Scorer.load(tmp_path)
