"""SDD-FIQA's labels against a plain reading of the paper with scipy's Wasserstein distance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance

from stages.core.metrics.quality import Material
from stages.quality import sdd_fiqa


def config(**fields) -> sdd_fiqa.Config:
    return sdd_fiqa.Config.model_validate({"name": "sdd_fiqa"} | fields)


def material(sizes=(4, 4, 4), dim: int = 6, noise=0.5, seed: int = 0) -> Material:
    rng = np.random.default_rng(seed)
    centre_CD = rng.normal(size=(len(sizes), dim))
    label_N = np.repeat(np.arange(len(sizes)), sizes)
    feature_ND = centre_CD[label_N] + np.broadcast_to(noise, label_N.shape)[:, None] * rng.normal(
        size=(len(label_N), dim)
    )
    order_N = rng.permutation(len(label_N))
    return Material(
        torch.from_numpy(feature_ND[order_N]).float(),
        torch.from_numpy(label_N[order_N]),
        torch.from_numpy(centre_CD).float(),
    )


def slow_label(given: Material, image: int) -> float:
    """The whole distributions, nothing drawn."""
    embedding_ND = given.feature_ND.double().numpy()
    embedding_ND /= np.linalg.norm(embedding_ND, axis=1, keepdims=True)
    cosine_N = embedding_ND @ embedding_ND[image]
    label_N = given.label_N.numpy()
    own_N = label_N == label_N[image]
    others_N = ~own_N
    own_N[image] = False
    return float(wasserstein_distance(cosine_N[own_N], cosine_N[others_N]))


def test_a_row_of_samples_has_scipys_distance():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(5, 9)), rng.normal(size=(5, 9))
    got = sdd_fiqa.wasserstein(torch.from_numpy(first), torch.from_numpy(second))
    assert got.tolist() == pytest.approx([wasserstein_distance(a, b) for a, b in zip(first, second, strict=True)])


def test_labels_near_the_distance_of_the_whole_distributions_as_drawings_grow():
    given = material(sizes=(30, 30, 30), seed=1)
    exact = np.array([slow_label(given, image) for image in range(90)])
    off = []
    for rounds in (1, 40):
        label_N = sdd_fiqa.labels(config(pairs=24, rounds=rounds), given).numpy()
        off.append(float(np.abs(label_N - exact).mean()))
        assert np.corrcoef(label_N, exact)[0, 1] > 0.9
    assert off[1] < off[0]
    assert off[1] < 0.05


def test_where_all_pairs_of_a_class_count_only_the_others_are_drawn():
    # two identities, of which the second's images are one: every drawing is the whole distribution
    given = material(sizes=(4, 4), noise=np.array([0.5] * 4 + [0.0] * 4))
    first = (given.label_N == 0).numpy()
    label_N = sdd_fiqa.labels(config(), given).numpy()
    exact = np.array([slow_label(given, image) for image in np.flatnonzero(first)])
    np.testing.assert_allclose(label_N[first], exact, rtol=1e-5)


def test_partners_are_of_the_right_class_never_the_image_itself():
    # cosines tell where a partner came from: 1 with the own class, -1 with the other
    embedding_ND = torch.tensor([[1.0, 0.0]] * 3 + [[-1.0, 0.0]] * 5)
    for begin, num in ((0, 3), (3, 5)):
        distance_R = sdd_fiqa._draw(embedding_ND, begin, num, 2, torch.Generator().manual_seed(0))
        assert distance_R.tolist() == pytest.approx([2.0] * num)


def test_an_image_far_from_its_people_has_a_lower_label():
    noise = np.tile([0.05] * 9 + [3.0], 4)
    given = material(sizes=(10,) * 4, dim=16, noise=noise, seed=2)
    label_N = sdd_fiqa.labels(config(), given)
    spread_N = torch.tensor(
        [float((f - given.centre_CD[y]).norm()) for f, y in zip(given.feature_ND, given.label_N, strict=True)]
    )
    assert label_N[spread_N > 2].max() < label_N[spread_N < 1].min()


def test_the_same_seed_draws_the_same_labels_and_another_others():
    given = material(sizes=(30, 30))
    assert torch.equal(sdd_fiqa.labels(config(seed=1), given), sdd_fiqa.labels(config(seed=1), given))
    assert not torch.equal(sdd_fiqa.labels(config(seed=1), given), sdd_fiqa.labels(config(seed=2), given))


def test_a_class_of_one_image_has_no_label_and_teaches_nothing():
    given = material(sizes=(1, 6, 6))
    label_N = sdd_fiqa.labels(config(), given)
    assert label_N.isnan().tolist() == (given.label_N == 0).tolist()
    learned = sdd_fiqa.train(config(), given)
    assert learned.metrics["labelled"] == 12


def test_the_layer_is_fitted_to_labels_from_0_to_100():
    noise = np.random.default_rng(5).uniform(0, 2, 200)
    given = material(sizes=(20,) * 10, dim=8, noise=noise, seed=3)
    learned = sdd_fiqa.train(config(), given)
    score_N = given.feature_ND @ learned.weights["weight"][0] + learned.weights["bias"]
    label_N = sdd_fiqa.labels(config(), given)
    assert learned.metrics["explained_variance"] > 0
    assert 0 < learned.metrics["target_mean"] < 100
    assert np.corrcoef(score_N.numpy(), label_N.numpy())[0, 1] == pytest.approx(
        learned.metrics["explained_variance"] ** 0.5, abs=0.1
    )


@pytest.mark.parametrize(
    ("sizes", "why"), [((1, 1, 1), "two identities"), ((5,), "two identities")]
)
def test_without_two_identities_of_two_images_it_says_what_it_wants(sizes, why):
    with pytest.raises(ValueError, match=why):
        sdd_fiqa.train(config(), material(sizes=sizes))


def test_features_that_are_not_finite_are_refused():
    given = material()
    given.feature_ND[0, 0] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        sdd_fiqa.train(config(), given)
