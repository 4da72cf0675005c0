"""What every head promises, tested the day its file is added."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from stages.core.losses.head import HeadOutput
from tests.stages.heads.support import HEADS, VARIANTS, build, cosines, loss_of, quality_for

# fields that take a head's margin away; heads that change negatives without a margin are not here
NEUTRAL: dict[str, dict[str, Any]] = {
    "adaface": {"margin": 0.0},
    "arcface": {"margin": 0.0},
    "cosface": {"margin": 0.0},
    "magface": {"min_margin": 0.0, "max_margin": 0.0, "norm_weight": 0.0},
    "mv_softmax": {"margin": 0.0, "weight": 1.0},
    "softmax": {},
    "sphereface": {"margin": 1.0},
    "combined": {"m1": 1.0, "m2": 0.0, "m3": 0.0},
    "elasticface": {"margin": 0.0, "deviation": 0.0},
    "uniface": {"margin": 0.0},
    "subcenter_arcface": {"margin": 0.0},
}


def step(head: Any, feature_BD: torch.Tensor, label_B: torch.Tensor) -> HeadOutput:
    """One step; everything that comes out or stays behind must be finite."""
    feature_BD = feature_BD.clone().requires_grad_()
    head.zero_grad()
    output = head(feature_BD, label_B, quality_for(head, len(label_B)))
    assert isinstance(output, HeadOutput)
    output.loss.backward()
    made = (output.loss, output.target_cosine_B, feature_BD.grad, head.weight.grad, *output.terms.values())
    for value in made:
        assert value.isfinite().all()
    for name, buffer in head.named_buffers():
        assert buffer.isfinite().all(), name
    return output


def batch(size: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return 20 * torch.randn(size, 8, generator=generator), torch.randint(0, 5, (size,), generator=generator)


@pytest.mark.parametrize("name", HEADS)
def test_a_step_gives_one_loss_and_one_cosine_and_hit_per_image(name: str):
    feature_BD, label_B = batch()
    head = build(name)
    output = step(head, feature_BD, label_B)
    assert output.loss.shape == ()
    assert output.target_cosine_B.shape == output.hit_B.shape == label_B.shape
    cosine_BC = cosines(feature_BD, head.weight)
    torch.testing.assert_close(output.target_cosine_B, cosine_BC.gather(1, label_B[:, None])[:, 0].detach())
    assert torch.equal(output.hit_B, cosine_BC.argmax(dim=1) == label_B)
    assert not output.target_cosine_B.requires_grad


@pytest.mark.parametrize("name", HEADS)
def test_the_weight_is_class_major(name: str):
    head = build(name)
    assert head.weight.shape == (5, 8 * head.centres)


@pytest.mark.parametrize("name", HEADS)
def test_the_loss_is_the_plain_one_of_the_logits_plus_the_heads_penalty(name: str):
    """Cross-entropy over all classes; UniFace's is with each of them."""
    feature_BD, label_B = batch()
    wanted = loss_of(build(name), build(name).logits(feature_BD, label_B), label_B)
    added = build(name).penalty(feature_BD.norm(dim=1))
    wanted = wanted if added is None else wanted + added[0]
    torch.testing.assert_close(build(name)(feature_BD, label_B).loss, wanted)


@pytest.mark.parametrize(("name", "overrides"), VARIANTS)
def test_a_batch_of_one_stays_finite(name: str, overrides: dict[str, Any]):
    feature_BD, label_B = batch(1)
    head = build(name, **overrides)
    for _ in range(3):
        step(head, feature_BD, label_B)


@pytest.mark.parametrize(("name", "overrides"), VARIANTS)
def test_identical_features_and_norms_without_deviation_stay_finite(name: str, overrides: dict[str, Any]):
    head = build(name, **overrides)
    feature_BD = torch.full((4, 8), 3.0)
    for _ in range(3):
        step(head, feature_BD, torch.tensor([0, 1, 1, 4]))
    step(head, functional.normalize(batch()[0], dim=1) * 20, batch()[1])


@pytest.mark.parametrize(("name", "overrides"), VARIANTS)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_cosines_at_exactly_one_and_minus_one_stay_finite(name: str, overrides: dict[str, Any], sign: float):
    head = build(name, feature_dim=8, num_classes=8, **overrides)
    head.weight.data.copy_(torch.eye(8).repeat(1, head.centres))
    feature_BD = sign * 16 * torch.eye(8)
    output = step(head, feature_BD, torch.arange(8))
    assert torch.equal(output.target_cosine_B, torch.full((8,), sign))
    step(head, feature_BD, (torch.arange(8) + 1) % 8)


@pytest.mark.parametrize(("name", "overrides"), VARIANTS)
def test_norms_beyond_half_precision_never_reach_a_buffer(name: str, overrides: dict[str, Any]):
    head = build(name, **overrides)
    feature_BD, label_B = batch()
    before = {key: buffer.clone() for key, buffer in head.named_buffers()}
    for beyond in (torch.inf, torch.nan, 1e30):
        feature_BD[2, 3] = beyond
        output = head(feature_BD, label_B, quality_for(head, len(label_B)))
        assert not output.loss.isfinite(), "a step that cannot be right must not look like one"
    for key, buffer in head.named_buffers():
        assert buffer.isfinite().all(), (key, before[key], buffer)


@pytest.mark.parametrize("name", NEUTRAL)
def test_margin_zero_is_plain_scaled_softmax(name: str):
    feature_BD, label_B = batch(64)
    head = build(name, **NEUTRAL[name])
    cosine_BC = cosines(feature_BD, head.weight)
    torch.testing.assert_close(head.logits(feature_BD, label_B), head.scale * cosine_BC, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in HEADS if name != "softmax"])
def test_a_margin_never_raises_the_target(name: str):
    feature_BD, label_B = batch(64)
    head = build(name)
    cosine_BC, _ = head.cosines(feature_BD)
    moved_BC = head.logits(feature_BD, label_B) / head.scale
    assert (moved_BC.gather(1, label_B[:, None]) <= cosine_BC.gather(1, label_B[:, None]) + 2e-3).all()


def test_adaface_takes_one_norm_into_the_mean_and_leaves_the_deviation():
    head = build("adaface", t_alpha=0.5)
    head.margin_scaler(torch.tensor([40.0]))
    assert float(head.batch_mean) == 30.0
    assert float(head.batch_std) == 100.0


def test_adaface_takes_a_deviation_of_zero_as_a_value():
    head = build("adaface", t_alpha=0.5)
    head.margin_scaler(torch.tensor([40.0, 40.0]))
    assert float(head.batch_std) == 50.0


def test_adaface_starting_as_qgface_gives_every_first_norm_the_full_scaler():
    head = build("adaface", initial_mean=0.0, initial_std=0.0)
    assert head.margin_scaler(torch.tensor([6.0, 14.0, 25.0, 60.0])).tolist() == [1.0] * 4
    assert float(head.batch_mean) == pytest.approx(0.2625)
    assert float(head.batch_std) == pytest.approx(0.238100119)


@pytest.mark.parametrize("name", HEADS)
def test_a_margin_that_is_not_yet_in_force_leaves_plain_softmax(name: str):
    feature_BD, label_B = batch(16)
    head = build(name)
    cosine_BC, _ = head.cosines(feature_BD)
    full_BC = head.logits(feature_BD, label_B)
    head = build(name)
    head.ramp = 0.0
    torch.testing.assert_close(head.logits(feature_BD, label_B), head.scale * cosine_BC)
    head = build(name)
    head.ramp = 0.5
    half_BC = head.logits(feature_BD, label_B)
    torch.testing.assert_close(half_BC, (full_BC + head.scale * cosine_BC) / 2)
