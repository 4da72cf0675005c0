"""Every published network: its state-dict keys, and its outputs with the same weights, by the authors' own code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.support_backbones import DEPTHS, WIDE, build, fill, golden_image

GOLDEN = Path(__file__).parents[2] / "golden/backbones_more.npz"
SHARED: dict[str, dict[str, Any]] = {
    "adaface_ir_18": {"name": "iresnet", "style": "adaface", "units": DEPTHS[18]},
    "adaface_ir_50": {"name": "iresnet", "style": "adaface", "units": DEPTHS[50]},
    "adaface_ir_101": {"name": "iresnet", "style": "adaface", "units": DEPTHS[100]},
    "insightface_iresnet18": {"name": "iresnet", "style": "insightface", "units": DEPTHS[18]},
    "insightface_iresnet50": {"name": "iresnet", "style": "insightface", "units": DEPTHS[50]},
    "insightface_iresnet100": {"name": "iresnet", "style": "insightface", "units": DEPTHS[100]},
    "magface_iresnet50": {"name": "magface", "units": DEPTHS[50]},
    "crfiqa_iresnet50": {"name": "cr_fiqa", "units": DEPTHS[50]},
}
OWN: dict[str, dict[str, Any]] = {
    "insightface_mbf": {"name": "mobilefacenet", "units": (1, 4, 6, 2), "scale": 2, "feature_dim": 512},
    "insightface_mbf_large": {"name": "mobilefacenet", "units": (2, 8, 12, 4), "scale": 4, "feature_dim": 512},
    "curricularface_ir_50": {"name": "curricularface", "units": DEPTHS[50], **WIDE},
    "curricularface_ir_101": {"name": "curricularface", "units": DEPTHS[100], **WIDE},
}


def published(tree: dict[str, Any]) -> nn.Module:
    # initial values are overwritten: drawing 65 million of them would be most of the test
    with torch.device("meta"):
        return build(tree)


def check_output(network: nn.Module, wanted_BD: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        feature_BD: torch.Tensor = fill(network)(golden_image())
    check_close(feature_BD, wanted_BD)
    return feature_BD


def check_close(measured: torch.Tensor, wanted: torch.Tensor) -> None:
    """Norm-wise, and each value to 1e-4 of the largest: sums of large terms cancel in single ones."""
    assert float((measured - wanted).norm() / wanted.norm()) < 1e-5
    torch.testing.assert_close(measured, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))


def shapes(network: nn.Module) -> dict[str, list[int]]:
    return {key: list(value.shape) for key, value in network.state_dict().items()}


@pytest.mark.parametrize("name", SHARED)
def test_keys_shapes_and_features_are_the_published_ones(name: str, golden: Path):
    network = published(SHARED[name] | WIDE)
    assert shapes(network) == json.loads((golden / "backbone_keys.json").read_text())[name]
    with np.load(golden / "backbones.npz") as numbers:
        wanted_BD = torch.from_numpy(numbers[f"{name}_out0"])
        if name.startswith("adaface"):  # returns unit embedding and norm
            wanted_BD = wanted_BD * torch.from_numpy(numbers[f"{name}_out1"])
        feature_BD = check_output(network, wanted_BD)
        if name.startswith("crfiqa"):
            check_close(network.quality(feature_BD).detach(), torch.from_numpy(numbers[f"{name}_out1"][:, 0]))


@pytest.mark.parametrize("name", OWN)
def test_keys_shapes_and_features_are_those_of_networks_kept_here(name: str):
    network = published(OWN[name])
    with np.load(GOLDEN) as numbers:
        assert shapes(network) == json.loads(bytes(numbers[f"{name}_keys"]))
        check_output(network, torch.from_numpy(numbers[f"{name}_out0"]))


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("extra", [{"name": "iresnet", "style": "adaface"}, {"name": "iresnet", "style": "insightface"}])
def test_the_number_of_keys_is_the_published_one_at_every_depth(depth: int, extra: dict[str, str]):
    # AdaFace 179, 323, 467, 917 and insightface 187, 331, 475, 925 (reference: counted on the authors' networks)
    wanted = {18: 179, 34: 323, 50: 467, 100: 917}[depth] + (8 if extra["style"] == "insightface" else 0)
    network = published({**extra, "units": DEPTHS[depth], **WIDE})
    state = network.state_dict()
    assert len(state) == wanted


def test_magfaces_batch_norms_have_its_own_constants_and_crfiqas_do_not():
    for name, wanted in (("magface", (2e-5, 0.9)), ("cr_fiqa", (1e-5, 0.1))):
        network = published({"name": name, "units": DEPTHS[18], **WIDE})
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d)]
        assert {(module.eps, module.momentum) for module in norms} == {wanted}
        assert network.features.weight.requires_grad
