"""Folded networks give the same features to rounding, and no batch norm that could go is left."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stages.core.networks.fold_batch_norm import fold
from tests.support_backbones import NARROW_CONFIGS, build, fill, golden_image

LEFT = {"adaface": 6, "ir_se": 6, "insightface": 6, "magface": 6, "cr_fiqa": 6, "curricularface": 6, "mobilefacenet": 0,
        "vit": 0, "cvlface_vit": 0}  # fmt: skip
"""One before the first convolution of each of five blocks, and one before the last linear layer."""


@pytest.mark.parametrize("family", NARROW_CONFIGS)
def test_a_folded_network_gives_the_same_features(family: str):
    network = fill(build(NARROW_CONFIGS[family])).double()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    folded = fold(network)
    with torch.no_grad():
        wanted_BD = network(golden_image().double())
        torch.testing.assert_close(folded(golden_image().double()), wanted_BD, rtol=1e-10, atol=1e-10)
    norms = [module for module in folded.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert len(norms) == LEFT[family]
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_a_network_in_training_is_folded_as_in_evaluation_and_stays_in_training():
    network = fill(build(NARROW_CONFIGS["adaface"])).train()
    assert not fold(network).training
    assert network.training
