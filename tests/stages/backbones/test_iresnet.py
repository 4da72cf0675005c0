"""IResNet: what its two styles are known for, beside the golden outputs of test_published.py."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from stages.backbones import iresnet
from stages.core.networks import residual_nets


def config(style: str = "adaface", units: Any = (1, 1, 1, 1), **fields: Any) -> iresnet.Config:
    narrow = {"widths": (4, 8, 8, 16), "stem_stride": 2, "feature_dim": 16, "dropout": 0.0}
    return iresnet.Config(name="iresnet", style=style, units=units, **narrow | fields)


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
    pointwise = residual_nets.Pointwise(8, 8, 1, 2, bias=False)
    x_BCHW = torch.randn(4, 8, 14, 14).contiguous(memory_format=memory_format).requires_grad_()
    wanted_BCHW = torch.nn.functional.conv2d(x_BCHW.detach().contiguous(), pointwise.weight, stride=2)
    out_BCHW = pointwise(x_BCHW)
    torch.testing.assert_close(out_BCHW, wanted_BCHW)
    out_BCHW.sum().backward()
    assert x_BCHW.grad.isfinite().all()


def test_a_wrong_field_is_named():
    with pytest.raises(ValueError, match="stem_stride"):
        config(stem_stride=3)
