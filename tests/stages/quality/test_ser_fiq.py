"""SER-FIQ against a plain reading of its formula: whole passes with dropout, distances pair by pair."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from stages.core.networks.fold_batch_norm import fold
from stages.quality import ser_fiq
from stages.runtime import plugins
from tests.support_backbones import NARROW_CONFIGS

TINY = {"units": [1, 1, 1, 1], "widths": [4, 4, 8, 8], "stem_stride": 2, "feature_dim": 16}


def network(dropout: float = 0.0, **fields) -> nn.Module:
    module = plugins.load("backbones", "iresnet")
    torch.manual_seed(0)
    return module.build(
        module.Config.model_validate({"name": "iresnet", "style": "adaface", "dropout": dropout} | TINY | fields)
    ).eval()


def images(num: int = 3) -> torch.Tensor:
    return torch.rand(num, 3, 112, 112, generator=torch.Generator().manual_seed(1)) * 2 - 1


def slow_score(backbone: nn.Module, image_3HW: torch.Tensor, kept_TK: torch.Tensor) -> float:
    """The formula as the paper has it, each pass through the whole network, each pair by itself."""
    embeddings = []
    *before, linear, norm = backbone.output_layer
    for kept_K in kept_TK:
        with torch.no_grad():
            value_1K = nn.Sequential(backbone.input_layer, backbone.body, *before)(image_3HW[None])
            feature_D = norm(linear(value_1K * kept_K))[0].double().numpy()
        embeddings.append(feature_D / np.linalg.norm(feature_D))
    distances = [math.dist(a, b) for a, b in itertools.combinations(embeddings, 2)]
    return 2 / (1 + math.exp(sum(distances) / len(distances)))


def scores(backbone: nn.Module, image_B3HW: torch.Tensor, **options) -> torch.Tensor:
    with torch.no_grad():
        return ser_fiq.Scorer(ser_fiq.Config(**options)).network(backbone)(image_B3HW)[:, 0]


@pytest.mark.parametrize("rate", [0.5, 0.1])
def test_scores_are_the_papers_formula_over_whole_passes(rate):
    backbone = network()
    num_values = backbone.output_layer[3].in_features
    kept_TK = ser_fiq.masks(7, num_values, rate, seed=3)
    expected = [slow_score(backbone, image, kept_TK) for image in images()]
    assert scores(backbone, images(), passes=7, rate=rate, seed=3).tolist() == pytest.approx(expected, rel=1e-5)


def test_masks_drop_the_share_they_should_and_keep_the_mean():
    kept_TK = ser_fiq.masks(50, 2000, 0.4, seed=0)
    assert float((kept_TK == 0).float().mean()) == pytest.approx(0.4, abs=0.01)
    assert sorted(kept_TK.unique().tolist()) == pytest.approx([0, 1 / 0.6])
    assert float(kept_TK.mean()) == pytest.approx(1, abs=0.02)


def test_a_network_without_dropout_is_asked_with_one_half_and_another_with_its_own():
    assert ser_fiq.own_rate(network()) == 0.5
    assert ser_fiq.own_rate(network(dropout=0.4)) == 0.4
    backbone = network(dropout=0.4)
    assert torch.equal(scores(backbone, images(), passes=5), scores(backbone, images(), passes=5, rate=0.4))


def test_a_score_is_the_same_alone_and_among_others_and_in_every_call():
    backbone = network()
    together = scores(backbone, images(5), passes=10)
    assert torch.equal(together, scores(backbone, images(5), passes=10))
    alone = torch.cat([scores(backbone, image[None], passes=10) for image in images(5)])
    torch.testing.assert_close(together, alone, rtol=1e-6, atol=1e-7)
    assert not torch.equal(together, scores(backbone, images(5), passes=10, seed=1))


def test_scores_lie_between_opposite_and_equal_embeddings():
    score_B = scores(network(), images(), passes=10)
    assert ((score_B > 2 / (1 + math.exp(2))) & (score_B <= 1)).all()
    same_BTD = torch.ones(1, 4, 2, dtype=torch.float64) / math.sqrt(2)
    assert float(2 * torch.sigmoid(-ser_fiq.mean_distance(same_BTD))[0]) == pytest.approx(1, abs=1e-7)


def test_dropping_less_scores_higher():
    backbone = network()
    means = [float(scores(backbone, images(), passes=20, rate=rate).mean()) for rate in (0.05, 0.2, 0.5, 0.8)]
    assert means == sorted(means, reverse=True)


def test_stretching_changes_no_order():
    backbone = network()
    plain, stretched = (scores(backbone, images(8), passes=10, stretched=way) for way in (False, True))
    expected = torch.sigmoid(130 * (plain - 0.88))
    torch.testing.assert_close(stretched, expected)
    assert torch.equal(torch.argsort(plain), torch.argsort(stretched))


FIELDS = {
    "iresnet": {"style": "insightface", "dropout": 0.0, **TINY},
    "mobilefacenet": {"units": [1, 1, 1, 1], "base_width": 4, "scale": 2, "feature_dim": 16},
    "vit": NARROW_CONFIGS["vit"],
    "cvlface_vit": NARROW_CONFIGS["cvlface_vit"],
}


@pytest.mark.parametrize("name", plugins.names("backbones"))
def test_every_family_of_networks_has_its_last_layer_found(name):
    module = plugins.load("backbones", name)
    fields = {"name": name, **FIELDS.get(name, {"dropout": 0.0, **TINY})}
    backbone = module.build(module.Config.model_validate(fields)).eval()
    parent, attribute = ser_fiq.last_linear(backbone)
    assert getattr(parent, attribute).out_features == 16
    folded = fold(backbone)
    torch.testing.assert_close(
        scores(backbone, images(), passes=4), scores(folded, images(), passes=4), rtol=1e-3, atol=1e-4
    )


def test_a_network_without_a_linear_layer_is_refused():
    with pytest.raises(ValueError, match="last linear layer"):
        ser_fiq.last_linear(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 1)))
