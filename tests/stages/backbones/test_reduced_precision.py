"""Features come out of the last layer in float32, whatever type the backbone computes in."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from stages.core.networks.feature_layer import FeatureLayer
from stages.runtime import plugins
from tests.support_backbones import NARROW_CONFIGS, build, golden_image

TRANSFORMERS = ("vit", "cvlface_vit")
"""Their blocks have linear layers too, in reduced precision."""


@pytest.mark.parametrize("tree", NARROW_CONFIGS.values(), ids=NARROW_CONFIGS)
def test_features_are_not_rounded_to_bfloat16(tree: dict[str, Any]):
    torch.manual_seed(0)
    network = build(tree)
    image_B3HW = golden_image()
    plain_BD = network(image_B3HW)
    with torch.autocast("cpu", torch.bfloat16):
        feature_BD = network(image_B3HW)
    assert plain_BD.dtype == feature_BD.dtype == torch.float32
    assert (feature_BD != feature_BD.bfloat16()).any()
    feature_BD.square().sum().backward()
    layers = [module for module in network.modules() if isinstance(module, FeatureLayer)]
    assert len(layers) == (2 if tree["name"] in TRANSFORMERS else 1)
    for layer in layers:
        assert (layer.weight.grad != layer.weight.grad.bfloat16()).any()
    linear = [m for m in network.modules() if isinstance(m, torch.nn.Linear) and m.weight.grad is not None]
    assert set(linear) == set(layers) or tree["name"] in TRANSFORMERS, "a last layer in reduced precision"


def test_every_backbone_is_looked_at():
    assert {tree["name"] for tree in NARROW_CONFIGS.values()} >= set(plugins.names("backbones"))
