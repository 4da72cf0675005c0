"""ViTs and IR-SE against the authors' code (tests/golden/make_transformers.py), and what they do in training alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.core.networks import checkpoint_keys, vision_transformer
from tests.support_backbones import DEPTHS, VITS, WIDE, build, config_of, fill, golden_image, six_images

GOLDEN = Path(__file__).parents[2] / "golden/transformers.npz"
IR_SE = {"adaface_ir_se_50": {"name": "ir_se", "units": DEPTHS[50], **WIDE}}
PUBLISHED: dict[str, dict[str, Any]] = {**VITS, **IR_SE}
LARGE = {"insightface_vit_b", "insightface_vit_l", "cvlface_vit_base"}
"""Seconds each, most of which draw their weights."""
MASKED = {"name": "vit", "patch_size": 16, "width": 16, "depth": 2, "heads": 8, "mlp_ratio": 4, "feature_dim": 16,
          "drop_path": 0.0, "mask_ratio": 0.1}  # fmt: skip


def on_paper(tree: dict[str, Any]) -> torch.nn.Module:
    with torch.device("meta"):
        return build(tree)


@pytest.mark.parametrize("name", PUBLISHED)
def test_keys_and_shapes_are_the_published_ones_and_tell_the_network(name: str):
    network = on_paper(PUBLISHED[name])
    with np.load(GOLDEN) as numbers:
        shapes = json.loads(bytes(numbers[f"{name}_keys"]))
    assert {key: list(value.shape) for key, value in network.state_dict().items()} == shapes
    found = checkpoint_keys.recognise({key: torch.empty(shape, device="meta") for key, shape in shapes.items()})
    assert found.family == PUBLISHED[name]["name"]
    read = config_of(checkpoint_keys.read_config(found))
    inference = {"mask_ratio": 0.0} if "mask_ratio" in PUBLISHED[name] else {}
    assert read == config_of(PUBLISHED[name] | inference)


def check(name: str) -> None:
    network = fill(on_paper(PUBLISHED[name]))
    with np.load(GOLDEN) as numbers, torch.no_grad():
        wanted_BD = torch.from_numpy(numbers[f"{name}_out0"])
        feature_BD = network(golden_image())
    assert float((feature_BD - wanted_BD).norm() / wanted_BD.norm()) < 1e-5
    torch.testing.assert_close(feature_BD, wanted_BD, rtol=1e-4, atol=1e-4 * float(wanted_BD.abs().max()))


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name not in LARGE])
def test_features_are_the_published_ones(name: str):
    check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(LARGE))
def test_features_of_the_large_ones_are_the_published_ones(name: str):
    check(name)


def test_masked_tokens_in_training_and_their_gradients_are_the_published_ones(monkeypatch: pytest.MonkeyPatch):
    network = fill(build(MASKED)).train()
    with np.load(GOLDEN) as numbers:
        noise_BT = torch.from_numpy(numbers["masked_noise"])
        monkeypatch.setattr(vision_transformer, "random_order", lambda token_BTW: noise_BT.argsort(dim=1))
        feature_BD = network(six_images())
        feature_BD.cos().sum().backward()
        wanted_BD = torch.from_numpy(numbers["masked_out0"])
        torch.testing.assert_close(feature_BD.detach(), wanted_BD, rtol=1e-4, atol=1e-4)
        for key in [key for key in numbers.files if key.startswith("masked_grad_")]:
            gradient, wanted = network.get_parameter(key.removeprefix("masked_grad_")).grad, torch.from_numpy(numbers[key])
            assert float((gradient - wanted).norm() / wanted.norm()) < 1e-4, key


def test_each_image_loses_other_tokens_and_the_seed_of_the_step_says_which(monkeypatch: pytest.MonkeyPatch):
    token_BTW = torch.zeros(3, 40, 4)
    torch.manual_seed(1)
    first_BT = vision_transformer.random_order(token_BTW)
    assert first_BT.sort(dim=1).values.equal(torch.arange(40).expand(3, 40))
    assert not torch.equal(first_BT[0], first_BT[1])
    torch.manual_seed(1)
    assert torch.equal(vision_transformer.random_order(token_BTW), first_BT)


def test_a_dropped_branch_is_left_out_of_whole_images_and_the_mean_stays():
    torch.manual_seed(0)
    drop = vision_transformer.DropPath(0.25)
    out_B = drop(torch.ones(8000, 2, 3))
    assert out_B.eq(out_B[:, :1, :1]).all()
    assert sorted(out_B.unique().tolist()) == pytest.approx([0, 1 / 0.75])
    assert float(out_B.mean()) == pytest.approx(1, abs=0.02)
    assert torch.equal(drop.eval()(out_B), out_B)


def test_stochastic_depth_rises_linearly_to_the_last_block():
    network = build({**MASKED, "depth": 3, "drop_path": 0.1})
    assert [block.drop_path.probability for block in network.blocks] == pytest.approx([0, 0.05, 0.1])


@pytest.mark.parametrize(("ratio", "trained"), [(0.0, False), (0.3, True)])
def test_the_mask_token_is_there_as_published_and_trained_only_where_tokens_are_masked(ratio: float, trained: bool):
    """DDP would wait for the gradient of a parameter that never takes part."""
    network = build({**MASKED, "mask_ratio": ratio})
    assert network.mask_token.requires_grad is trained
    network.train()(golden_image()).sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in network.parameters())


def test_heads_that_cannot_share_the_width_are_refused():
    with pytest.raises(ValueError, match="width 16 cannot be shared by 3 heads"):
        config_of({**MASKED, "heads": 3})


def test_a_cvlface_vit_of_a_depth_that_nobody_published_is_refused_and_kprpes_keys_too():
    state = dict(on_paper(VITS["cvlface_vit_small"]).state_dict())
    cut = {key: value for key, value in state.items() if not key.startswith("blocks.11.")}
    with pytest.raises(ValueError, match="a CVLface ViT of 11 blocks: its heads are not in the keys, and only 12 and 24"):
        checkpoint_keys.read_config(checkpoint_keys.recognise(cut))
    wanted = {key: value.shape for key, value in state.items()}
    with pytest.raises(ValueError, match=r"unexpected: blocks\.0\.attn\.rpe_k"):
        checkpoint_keys.fit(state | {"blocks.0.attn.rpe_k.lookup_table_weight": torch.empty(1, device="meta")}, wanted)
