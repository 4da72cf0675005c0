"""Published layouts are recognised by their keys, and depth and width are read off them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.core.networks import checkpoint_keys
from tests.support_backbones import DEPTHS, NARROW_CONFIGS, build, config_of, fill, published_file

GOLDEN = Path(__file__).parents[3] / "golden/backbones_more.npz"


def state_of(family: str) -> dict[str, torch.Tensor]:
    return dict(fill(build(NARROW_CONFIGS[family])).state_dict())


def on_paper(shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    """Tensors that have a shape and no values: what recognises a network must not need more."""
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


@pytest.mark.parametrize(
    ("name", "family", "depth"),
    [
        ("adaface_ir_18", "adaface", 18), ("adaface_ir_50", "adaface", 50), ("adaface_ir_101", "adaface", 100),
        ("insightface_iresnet18", "insightface", 18), ("insightface_iresnet50", "insightface", 50),
        ("insightface_iresnet100", "insightface", 100), ("crfiqa_iresnet50", "cr_fiqa", 50),
    ],
)  # fmt: skip
def test_the_published_keys_are_recognised(name: str, family: str, depth: int, golden: Path):
    shapes = json.loads((golden / "backbone_keys.json").read_text())[name]
    found = checkpoint_keys.recognise(on_paper(shapes))
    assert (found.family, found.prefix) == (family, "")
    config = checkpoint_keys.read_config(found)
    assert tuple(config["units"]) == DEPTHS[depth]
    assert config["widths"] == [64, 128, 256, 512]
    assert (config["stem_stride"], config["feature_dim"]) == (1, 512)


@pytest.mark.parametrize("prefix", ["features.module.", "module.features."])
def test_magfaces_keys_are_recognised_by_their_prefix(prefix: str, golden: Path):
    shapes = json.loads((golden / "backbone_keys.json").read_text())["magface_iresnet50"]
    tree = {"state_dict": on_paper({prefix + key: shape for key, shape in shapes.items()}), "epoch": 25}
    found = checkpoint_keys.recognise(tree)
    assert (found.family, found.prefix) == ("magface", prefix)
    assert list(found.state) == list(shapes)
    assert checkpoint_keys.recognise(on_paper(shapes)).family == "insightface"
    assert checkpoint_keys.recognise(on_paper(shapes), "magface").family == "magface"


@pytest.mark.parametrize(
    ("name", "family", "units"),
    [
        ("curricularface_ir_50", "curricularface", (3, 4, 14, 3)),
        ("curricularface_ir_101", "curricularface", (3, 13, 30, 3)),
        ("insightface_mbf", "mobilefacenet", (1, 4, 6, 2)),
        ("insightface_mbf_large", "mobilefacenet", (2, 8, 12, 4)),
    ],
)
def test_published_keys_that_are_kept_here_are_recognised(name: str, family: str, units: tuple[int, ...]):
    with np.load(GOLDEN) as numbers:
        shapes = json.loads(bytes(numbers[f"{name}_keys"]))
    found = checkpoint_keys.recognise(on_paper(shapes))
    assert found.family == family
    assert tuple(checkpoint_keys.read_config(found)["units"]) == units


@pytest.mark.parametrize("family", NARROW_CONFIGS)
def test_a_checkpoint_gives_back_the_configuration_it_was_made_with(family: str):
    found = checkpoint_keys.recognise(published_file(family, state_of(family)))
    assert found.family == family
    wanted = config_of(NARROW_CONFIGS[family])
    read = type(wanted).model_validate(checkpoint_keys.read_config(found))
    same = {"dropout": 0.0} if family == "insightface" else {}  # published without; training alone would see it
    assert read == wanted.model_copy(update=same)
    assert (found.head_CD is not None) == (family in ("adaface", "ir_se", "magface"))
    if found.head_CD is not None:
        assert found.head_CD.shape == (5, 16)


def test_counters_that_old_files_lack_are_zeros_and_half_precision_becomes_float32():
    state = state_of("adaface")
    wanted = {key: value.shape for key, value in state.items()}
    old = {key: value.half() for key, value in state.items() if not key.endswith("num_batches_tracked")}
    fitted = checkpoint_keys.fit(old, wanted)
    assert list(fitted) == list(wanted)
    assert {value.dtype for value in fitted.values()} == {torch.float32, torch.int64}


def test_what_does_not_fit_is_listed():
    state = state_of("adaface")
    wanted = {key: value.shape for key, value in state.items()}
    broken = dict(state)
    del broken["body.1.res_layer.1.weight"]
    broken["body.1.res_layer.5.fc1.weight"] = torch.zeros(1)
    broken["input_layer.1.bias"] = torch.zeros(3)
    with pytest.raises(ValueError) as raised:
        checkpoint_keys.fit(broken, wanted)
    assert str(raised.value) == (
        "missing: body.1.res_layer.1.weight; unexpected: body.1.res_layer.5.fc1.weight; "
        "of another shape: input_layer.1.bias (3,) instead of (4,)"
    )


def test_weights_that_are_not_finite_are_refused():
    state = state_of("adaface")
    state["output_layer.3.bias"] = torch.full((16,), torch.nan)
    with pytest.raises(ValueError, match=r"not finite: output_layer\.3\.bias"):
        checkpoint_keys.fit(state, {key: value.shape for key, value in state.items()})


def test_other_networks_are_refused_with_their_keys():
    with pytest.raises(ValueError, match=r"one of input_layer.0.weight .* is missing; unexpected: stem.weight, fc.bias"):
        checkpoint_keys.recognise({"stem.weight": torch.zeros(1), "fc.bias": torch.zeros(1)})
    with pytest.raises(ValueError, match="no tensors at all"):
        checkpoint_keys.recognise({"epoch": 3})
    with pytest.raises(ValueError, match="the keys are not those of the network insightface, but of adaface"):
        checkpoint_keys.recognise(state_of("adaface"), "insightface")


def test_a_network_for_other_images_is_refused():
    state = state_of("insightface")
    state["fc.weight"] = torch.zeros(16, 16 * 14 * 14)
    with pytest.raises(ValueError, match="take 112x112 images"):
        checkpoint_keys.read_config(checkpoint_keys.recognise(state))
