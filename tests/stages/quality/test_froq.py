"""FROQ: layers are chosen as by hand, and scores are the mean norm of what these layers put out."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor, nn

from stages import train_quality
from stages.core.images.pixels import from_rows, to_network
from stages.core.metrics.quality import Material
from stages.embedding import scoring_embedder
from stages.embedding.embedder import Embedder
from stages.quality import froq
from stages.runtime import artifacts
from tests.stages.embedding.test_embedder import BACKBONE, CPU, noise, write_model

COUNT = 40


class Net(nn.Module):
    """One layer passes its input on, one turns its norm round, one is constant, one never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.same = nn.Identity()
        self.inverse = Inverse()
        self.constant = Constant()
        self.never = nn.Identity()
        self.last = nn.Flatten()

    def forward(self, image_B3HW: Tensor) -> Tensor:
        self.constant(self.inverse(image_B3HW))
        return self.last(self.same(image_B3HW))[:, :8] + 1


class Inverse(nn.Module):
    def forward(self, image_B3HW: Tensor) -> Tensor:
        return 1 / (image_B3HW + 2)


class Constant(nn.Module):
    def forward(self, image_B3HW: Tensor) -> Tensor:
        return torch.ones_like(image_B3HW)


def bright() -> Tensor:
    """Images of rising brightness."""
    return torch.linspace(0.1, 1, COUNT)[:, None, None, None].expand(COUNT, 3, 28, 28).contiguous()


def material(label_by_brightness: bool = True) -> Material:
    """Images whose cosine with the class centre rises, or falls, with their brightness."""
    angle_N = torch.linspace(1.2, 0.1, COUNT) if label_by_brightness else torch.linspace(0.1, 1.2, COUNT)
    feature_ND = torch.stack([angle_N.cos(), angle_N.sin()], dim=1)
    return Material(
        feature_ND, torch.zeros(COUNT, dtype=torch.int64), torch.tensor([[1.0, 0.0]]), None, Net(), bright(), 0.0
    )


def config(**fields: object) -> froq.Config:
    return froq.Config.model_validate({"name": "froq", "labels": "centre"} | fields)


@pytest.mark.parametrize(("rises", "layer"), [(True, "same"), (False, "inverse")])
def test_the_layer_whose_norm_follows_the_labels_is_chosen(rises: bool, layer: str) -> None:
    learned = froq.train(config(top=1), material(rises))
    assert learned.options == {"layers": [layer]}
    assert learned.metrics == {"layers": 1, "correlation": pytest.approx(1)}


def test_layers_that_are_constant_or_never_run_are_never_chosen() -> None:
    learned = froq.train(config(top=10), material())
    assert not {"constant", "never"} & set(learned.options["layers"])


def test_layers_are_added_as_long_as_the_correlation_of_the_mean_norm_grows() -> None:
    rng = np.random.default_rng(0)
    label_N = rng.normal(size=60)
    norm_NL = label_N[:, None] + rng.normal(size=(60, 7)) * np.array([1, 2, 1.5, 3, 1, 5, 2])
    chosen, correlation = froq.choose(norm_NL, label_N, 5)

    def follows(layers) -> float:
        return float(scipy.stats.spearmanr(norm_NL[:, list(layers)].mean(axis=1), label_N).statistic)

    assert correlation == pytest.approx(follows(chosen))
    single = sorted(range(7), key=lambda layer: -follows([layer]))[:5]
    assert chosen[0] == single[0]
    assert set(chosen) <= set(single)
    # each step takes the best layer there is; no longer way is better
    for size in range(1, len(chosen)):
        rest = [layer for layer in single if layer not in chosen[:size]]
        assert follows(chosen[: size + 1]) == max(follows([*chosen[:size], layer]) for layer in rest)
    longest = chosen
    while len(longest) < 5:
        rest = [layer for layer in single if layer not in longest]
        longest = [*longest, max(rest, key=lambda layer: follows([*longest, layer]))]
    assert correlation >= max(follows(longest[: size + 1]) for size in range(5))
    assert correlation <= max(follows(one) for size in range(1, 6) for one in itertools.combinations(single, size))


def test_labels_by_perturbations_are_a_third_each_of_three_cosines() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 28 * 28, 6))
    pixels_B3HW = torch.randn(2, 3, 28, 28)
    noise_M3HW = torch.randn(froq.NUM_NOISES, 3, 28, 28)
    with torch.no_grad():
        found_B = froq._robustness(network, pixels_B3HW, noise_M3HW, -1.0)
        feature_BD = network(pixels_B3HW)
        changed = (
            [pixels_B3HW.flip(3)],
            [0.999 * pixels_B3HW + 0.001 * one for one in noise_M3HW],
            [
                torch.where((torch.arange(28) // 14 == x) & (torch.arange(28) // 14 == y)[:, None], -1.0, pixels_B3HW)
                for x in (0, 1) for y in (0, 1)
            ],
        )  # fmt: skip
        parts = [
            torch.stack([nn.functional.cosine_similarity(feature_BD, network(one)) for one in images]).mean(0)
            for images in changed
        ]
    assert found_B.tolist() == pytest.approx((sum(parts) / 3).tolist(), abs=1e-6)


def test_a_run_scores_by_the_layers_that_its_training_images_chose(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FACET_EMBEDDINGS_GB", "0")
    (tmp_path / "runs/r").mkdir(parents=True)
    write_model(tmp_path / "runs/r/backbone")
    loaded = Embedder.load(tmp_path / "runs/r/backbone", CPU, flip=False)
    pixels_N3HW = to_network(from_rows(torch.from_numpy(noise(24))), "BGR", (-1.0, 1.0))
    with torch.no_grad():
        feature_ND = loaded.backbone(pixels_N3HW)
    given = Material(
        feature_ND, torch.arange(24) % 4, torch.randn(4, BACKBONE["feature_dim"]), None, loaded.backbone, pixels_N3HW
    )
    learned = froq.train(config(labels="perturbations", top=3), given)
    (tmp_path / "quality").mkdir()
    train_quality.write_method(tmp_path / "quality", "r", config(), learned)
    assert artifacts.read_json(tmp_path / "quality/quality.json")["layers"] == learned.options["layers"]
    scorers = scoring_embedder.of_run(tmp_path / "quality", [])
    features = scoring_embedder.watched(loaded, scorers)(noise(5))
    norms = {}
    for name in learned.options["layers"]:
        loaded.backbone.get_submodule(name).register_forward_hook(
            lambda module, given, output, name=name: norms.update({name: output.clone().flatten(1).norm(dim=1)})
        )
    with torch.no_grad():
        loaded.backbone(pixels_N3HW[:5])
    expected_N = torch.stack(list(norms.values())).mean(dim=0).numpy()
    np.testing.assert_allclose(scorers["froq"].score(features), expected_N, rtol=1e-5)


def test_without_layers_or_images_the_message_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="has no layers yet: the stage train_quality chooses them"):
        froq.Scorer(config())
    with pytest.raises(ValueError, match="the network has no layer nowhere"):
        froq.Scorer(config(layers=["nowhere"])).network(Net())
    bare = Material(torch.ones(3, 2), torch.zeros(3, dtype=torch.int64), torch.ones(1, 2))
    with pytest.raises(ValueError, match="is calibrated on images"):
        froq.train(config(), bare)
    assert froq.train(config(layers=["same"]), bare).options == {"layers": ["same"]}
    assert config(layers=["same"]).num_images(500) == 0
