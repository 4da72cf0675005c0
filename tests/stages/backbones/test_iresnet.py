"""IResNet against the authors' networks: keys, outputs with the same weights; then the narrow nets."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from stages.backbones import iresnet

PUBLISHED = {
    "adaface_ir_18": ("adaface", (2, 2, 2, 2)),
    "adaface_ir_50": ("adaface", (3, 4, 14, 3)),
    "adaface_ir_101": ("adaface", (3, 13, 30, 3)),
    "insightface_iresnet18": ("insightface", (2, 2, 2, 2)),
    "insightface_iresnet50": ("insightface", (3, 4, 14, 3)),
    "insightface_iresnet100": ("insightface", (3, 13, 30, 3)),
}


def config(style: str = "adaface", units: Any = (1, 1, 1, 1), **fields: Any) -> iresnet.Config:
    narrow = {"widths": (4, 8, 8, 16), "stem_stride": 2, "feature_dim": 16, "dropout": 0.0}
    return iresnet.Config(name="iresnet", style=style, units=units, **narrow | fields)


def published(name: str) -> nn.Module:
    style, units = PUBLISHED[name]
    widths = (64, 128, 256, 512)
    # initial values are overwritten: drawing 65 million of them would be most of the test
    with torch.device("meta"):
        return iresnet.build(
            config(style, units, widths=widths, stem_stride=1, feature_dim=512, dropout=0.4)
        )


def filled(name: str, shape: list[int]) -> torch.Tensor:
    """One tensor as ../shared/golden/README.md says: drawn from a generator seeded by its own key."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("num_batches_tracked"):
        return torch.tensor(0)
    if name.endswith("running_var"):
        drawn = rng.uniform(0.5, 1.5, shape)
    elif name.endswith("running_mean"):
        drawn = rng.normal(0, 0.1, shape)
    elif len(shape) >= 2:
        drawn = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
    elif name.endswith("bias"):
        drawn = rng.normal(0, 0.1, shape)
    else:
        drawn = rng.uniform(0.2, 1.2, shape)
    return torch.from_numpy(drawn.astype(np.float32))


@pytest.mark.parametrize("name", PUBLISHED)
def test_state_dict_keys_and_shapes_are_the_published_ones(name: str, golden: Path):
    wanted = json.loads((golden / "backbone_keys.json").read_text())[name]
    assert {key: list(value.shape) for key, value in published(name).state_dict().items()} == wanted


@pytest.mark.parametrize("name", PUBLISHED)
def test_features_equal_the_published_networks(name: str, golden: Path):
    network = published(name)
    state = {key: filled(key, list(value.shape)) for key, value in network.state_dict().items()}
    network.load_state_dict(state, assign=True)
    network.eval()
    drawn = np.random.default_rng(5).uniform(-1, 1, (2, 3, 112, 112))
    image_B3HW = torch.from_numpy(drawn.astype(np.float32))
    with np.load(golden / "backbones.npz") as numbers, torch.no_grad():
        feature_BD = network(image_B3HW)
        wanted_BD = torch.from_numpy(numbers[f"{name}_out0"])
        if name.startswith("adaface"):  # returns unit embedding and norm
            wanted_BD = wanted_BD * torch.from_numpy(numbers[f"{name}_out1"])
    assert float((feature_BD - wanted_BD).norm() / wanted_BD.norm()) < 1e-5
    torch.testing.assert_close(feature_BD, wanted_BD, rtol=1e-4, atol=1e-4 * float(wanted_BD.abs().max()))


@pytest.mark.parametrize("style", ["adaface", "insightface"])
@pytest.mark.parametrize("stem_stride", [1, 2])
def test_a_narrow_net_gives_one_feature_per_image(style: str, stem_stride: int):
    network = iresnet.build(config(style, stem_stride=stem_stride)).eval()
    assert network(torch.zeros(3, 3, 112, 112)).shape == (3, 16)


def test_in_training_the_mean_squared_norm_of_adafaces_net_is_its_dimension():
    torch.manual_seed(0)
    feature_BD = iresnet.build(config())(torch.rand(32, 3, 112, 112))
    assert float(feature_BD.detach().square().sum(dim=1).mean()) == pytest.approx(16, rel=1e-2)


def test_the_scale_of_insightfaces_last_batch_norm_is_not_trained():
    parameters = iresnet.build(config("insightface")).named_parameters()
    trained = {name for name, value in parameters if value.requires_grad}
    assert "features.weight" not in trained
    assert "features.bias" in trained


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_shortcut_equals_the_strided_convolution_it_replaces(memory_format: torch.memory_format):
    torch.manual_seed(0)
    pointwise = iresnet.Pointwise(8, 8, 1, 2, bias=False)
    x_BCHW = torch.randn(4, 8, 14, 14).contiguous(memory_format=memory_format).requires_grad_()
    wanted_BCHW = torch.nn.functional.conv2d(x_BCHW.detach().contiguous(), pointwise.weight, stride=2)
    out_BCHW = pointwise(x_BCHW)
    torch.testing.assert_close(out_BCHW, wanted_BCHW)
    out_BCHW.sum().backward()
    assert x_BCHW.grad.isfinite().all()


def test_a_wrong_field_is_named():
    with pytest.raises(ValueError, match="stem_stride"):
        config(stem_stride=3)
