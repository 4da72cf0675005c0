"""AdaFace's network in insightface's and MagFace's layout, and back: the same numbers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stages.core.networks import checkpoint_convert
from tests.support_backbones import NARROW, NARROW_CONFIGS, build, fill, golden_image

UNITS = (2, 1, 2, 1)


def network(family: str) -> nn.Module:
    return fill(build(NARROW_CONFIGS[family] | {"units": UNITS})).double()


def state_of(family: str) -> dict[str, torch.Tensor]:
    return dict(network(family).state_dict())


def loaded(family: str, state: dict[str, torch.Tensor]) -> nn.Module:
    made = network(family)
    made.load_state_dict(state)
    return made


def difference(one: nn.Module, other: nn.Module) -> float:
    with torch.no_grad():
        wanted_BD, made_BD = one(golden_image().double()), other(golden_image().double())
    return float((made_BD - wanted_BD).abs().max() / wanted_BD.abs().max())


@pytest.mark.parametrize("layout", ["insightface", "magface"])
def test_the_converted_network_gives_the_same_features(layout: str):
    made = checkpoint_convert.to_staged(state_of("adaface"), UNITS, layout)
    assert difference(network("adaface"), loaded(layout, made)) < 1e-13


@pytest.mark.parametrize("layout", ["insightface", "magface"])
def test_there_and_back_gives_the_same_weights(layout: str):
    state = state_of("adaface")
    back = checkpoint_convert.to_flat(checkpoint_convert.to_staged(state, UNITS, layout), UNITS, layout)
    assert set(back) == set(state)
    for key, value in state.items():
        torch.testing.assert_close(back[key], value, rtol=1e-14, atol=1e-15)


def test_in_float32_there_and_back_gives_the_same_bits():
    state = {key: value.float() if value.is_floating_point() else value for key, value in state_of("adaface").items()}
    back = checkpoint_convert.to_flat(checkpoint_convert.to_staged(state, UNITS), UNITS)
    assert all(torch.equal(back[key], value) for key, value in state.items())


def test_a_trained_last_batch_norm_is_taken_into_its_statistics():
    state = checkpoint_convert.to_staged(state_of("adaface"), UNITS)
    generator = torch.Generator().manual_seed(0)
    state["features.weight"] = torch.randn(NARROW["feature_dim"], generator=generator, dtype=torch.float64)
    state["features.bias"] = torch.randn(NARROW["feature_dim"], generator=generator, dtype=torch.float64)
    back = checkpoint_convert.to_flat(state, UNITS)
    assert difference(loaded("insightface", state), loaded("adaface", back)) < 1e-12


def test_a_trained_first_shortcut_has_no_place_in_adafaces_network():
    with pytest.raises(ValueError, match="AdaFace's network cannot hold"):
        checkpoint_convert.to_flat(state_of("insightface"), UNITS)


def test_a_last_scale_of_zero_is_refused():
    state = checkpoint_convert.to_staged(state_of("adaface"), UNITS)
    state["features.weight"] = torch.zeros(NARROW["feature_dim"], dtype=torch.float64)
    with pytest.raises(ValueError, match=r"features\.weight has zeros"):
        checkpoint_convert.to_flat(state, UNITS)
