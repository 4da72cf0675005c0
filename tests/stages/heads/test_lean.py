"""The lean loss against the plain one: all logits at once, cross-entropy, autograd."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core.losses import margin_softmax_chunks, tuning
from tests.stages.heads.support import VARIANTS, build, loss_of, quality_for

SIZE, DIM, CLASSES, STEPS = 12, 16, 43, 3


def plain(head: Any, feature_BD: torch.Tensor, label_B: torch.Tensor) -> torch.Tensor:
    quality = (quality_for(head, len(label_B)),) if head.wants_quality else ()
    logits_BC = head.logits(feature_BD, label_B, *quality)
    added = head.penalty(feature_BD.norm(dim=1))
    loss = loss_of(head, logits_BC, label_B)
    return loss if added is None else loss + added[0]


def lean(head: Any, feature_BD: torch.Tensor, label_B: torch.Tensor) -> torch.Tensor:
    loss: torch.Tensor = head(feature_BD, label_B, quality_for(head, len(label_B))).loss
    return loss


def batches(dtype: torch.dtype) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Three batches: anything, near the own centre (where hardly anything is hard), near another's."""
    generator = torch.Generator().manual_seed(7)
    centre_CD = build("softmax", DIM, CLASSES).weight.detach()
    made = []
    for step in range(STEPS):
        label_B = torch.randint(0, CLASSES, (SIZE,), generator=generator)
        label_B[1] = label_B[0]
        noise_BD = 0.25 * torch.randn(SIZE, DIM, generator=generator)
        near_BD = centre_CD[(label_B + (step == 2)) % CLASSES] if step else torch.zeros(SIZE, DIM)
        length_B1 = 20 * torch.rand(SIZE, 1, generator=generator) + 5
        made.append(((near_BD + noise_BD).to(dtype) * length_B1.to(dtype), label_B))
    return made


def off(measured: torch.Tensor, wanted: torch.Tensor) -> float:
    """Norm of the difference over the norm of what was wanted."""
    return float((measured.double() - wanted.double()).norm() / wanted.double().norm().clamp_min(1e-300))


def compare(head: Any, twin: Any, feature_BD: torch.Tensor, label_B: torch.Tensor, tolerance: float) -> None:
    mine_BD, other_BD = feature_BD.clone().requires_grad_(), feature_BD.clone().requires_grad_()
    losses = lean(head, mine_BD, label_B), plain(twin, other_BD, label_B)
    for module, loss in zip((head, twin), losses, strict=True):
        module.zero_grad()
        loss.backward()
    assert float(losses[0].detach()) == pytest.approx(float(losses[1].detach()), rel=tolerance, abs=tolerance)
    assert off(mine_BD.grad, other_BD.grad) < tolerance
    assert off(head.weight.grad, twin.weight.grad) < tolerance
    for name, buffer in head.named_buffers():
        assert off(buffer, twin.get_buffer(name)) < tolerance, name


@pytest.mark.parametrize(
    ("mode", "ramp", "tuned"),
    [
        ("store", 1.0, tuning.CPU), ("store", 0.4, tuning.CPU), ("recompute", 1.0, tuning.CPU),
        ("recompute", 0.4, tuning.CPU), ("store", 1.0, tuning.GPU), ("recompute", 0.4, tuning.GPU),
    ],
    ids=["store-1-cpu", "store-.4-cpu", "recompute-1-cpu", "recompute-.4-cpu", "store-1-gpu", "recompute-.4-gpu"],
)  # fmt: skip
@pytest.mark.parametrize(("name", "overrides"), VARIANTS)
def test_steps_with_state_equal_the_plain_ones(
    name: str, overrides: dict[str, Any], mode: str, ramp: float, tuned: tuning.Tuning, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(margin_softmax_chunks.Plan, "width", lambda *_: 10)
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        head, twin = (build(name, DIM, CLASSES, **overrides).to(dtype) for _ in range(2))
        head.mode, head.tuned, head.ramp, twin.ramp = mode, tuned, ramp, ramp
        for feature_BD, label_B in batches(dtype):
            if dtype == torch.float32:
                # where cosines differ by rounding, a hard negative may be one on one side only
                head.weight.data.copy_(twin.weight.data)
            compare(head, twin, feature_BD, label_B, tolerance)
            for module in (head, twin):
                module.weight.data.sub_(module.weight.grad, alpha=0.01)


@pytest.mark.parametrize(("name", "overrides"), VARIANTS)
@pytest.mark.parametrize("tuned", [tuning.CPU, tuning.GPU], ids=["cpu", "gpu"])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_cosines_at_the_ends_of_their_range_equal_the_plain_ones(
    name: str, overrides: dict[str, Any], sign: float, tuned: tuning.Tuning
):
    head, twin = (build(name, 8, 8, **overrides).double() for _ in range(2))
    head.tuned = tuned
    for module in (head, twin):
        module.weight.data.copy_(torch.eye(8).repeat(1, head.centres))
    feature_BD = sign * 16 * torch.eye(8, dtype=torch.float64)
    # the own centre at the end of the range, then another's
    compare(head, twin, feature_BD, torch.arange(8), 1e-10)
    compare(head, twin, feature_BD, (torch.arange(8) + 1) % 8, 1e-10)


@pytest.mark.parametrize("scale", [8.0, 64.0, 200.0, 1000.0])
@pytest.mark.parametrize("mode", ["store", "recompute"])
def test_exponents_beyond_the_floats_range_are_shifted(mode: str, scale: float, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(margin_softmax_chunks.Plan, "width", lambda *_: 10)
    for name in ("cosface", "curricularface", "mv_softmax"):
        head, twin = (build(name, DIM, CLASSES, scale=scale) for _ in range(2))
        head.mode = mode
        feature_BD, label_B = batches(torch.float32)[2]
        compare(head, twin, feature_BD, label_B, 2e-5)


@settings(max_examples=30, deadline=None)
@given(
    size=st.integers(1, 20),
    dim=st.integers(3, 12),
    num_classes=st.integers(1, 40),
    width=st.integers(1, 50),
    mode=st.sampled_from(["store", "recompute"]),
    variant=st.sampled_from(VARIANTS),
    seed=st.integers(0, 2**16),
)
def test_any_shape_equals_the_plain_one(
    size: int, dim: int, num_classes: int, width: int, mode: str, variant: tuple[str, dict[str, Any]], seed: int
):
    name, overrides = variant
    head, twin = (build(name, dim, num_classes, **overrides).double() for _ in range(2))
    head.mode = mode
    generator = torch.Generator().manual_seed(seed)
    feature_BD = 9 * torch.randn(size, dim, generator=generator, dtype=torch.float64)
    label_B = torch.randint(0, num_classes, (size,), generator=generator)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(margin_softmax_chunks.Plan, "width", lambda *_: width)
        mine_BD, other_BD = feature_BD.clone().requires_grad_(), feature_BD.clone().requires_grad_()
        losses = lean(head, mine_BD, label_B), plain(twin, other_BD, label_B)
        for loss in losses:
            loss.backward()
    assert float(losses[0].detach()) == pytest.approx(float(losses[1].detach()), rel=1e-9, abs=1e-9)
    # gradients may cancel to nothing (one class): then no digit is right
    for mine, wanted in ((mine_BD.grad, other_BD.grad), (head.weight.grad, twin.weight.grad)):
        torch.testing.assert_close(mine, wanted, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("name", "overrides"), VARIANTS)
def test_a_factor_multiplies_each_images_logits(name: str, overrides: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(margin_softmax_chunks.Plan, "width", lambda *_: 10)
    head, twin = (build(name, DIM, CLASSES, **overrides).double() for _ in range(2))
    factor_B = torch.linspace(0, 1, SIZE, dtype=torch.float64)
    feature_BD, label_B = batches(torch.float64)[2]
    mine_BD, other_BD = feature_BD.clone().requires_grad_(), feature_BD.clone().requires_grad_()
    quality_B = quality_for(head, SIZE)
    loss = head(mine_BD, label_B, quality_B, factor_B).loss
    logits_BC = twin.logits(other_BD, label_B, *(() if quality_B is None else (quality_B,)))
    wanted = loss_of(twin, logits_BC * factor_B[:, None], label_B)
    added = twin.penalty(other_BD.norm(dim=1))
    wanted = wanted if added is None else wanted + added[0]
    for made in (loss, wanted):
        made.backward()
    if overrides.get("proxy") != "p_true_class":  # whose probability is that of the multiplied logits
        torch.testing.assert_close(loss, wanted, rtol=1e-10, atol=1e-10)
        assert off(mine_BD.grad, other_BD.grad) < 1e-10
        assert off(head.weight.grad, twin.weight.grad) < 1e-10
    assert mine_BD.grad.isfinite().all()


def test_a_second_backward_gives_the_same_gradients():
    head = build("arcface", DIM, CLASSES)
    feature_BD, label_B = batches(torch.float32)[0]
    feature_BD.requires_grad_()
    loss = head(feature_BD, label_B).loss
    first = torch.autograd.grad(loss, (feature_BD, head.weight), retain_graph=True)
    second = torch.autograd.grad(loss, (feature_BD, head.weight))
    for once, again in zip(first, second, strict=True):
        torch.testing.assert_close(once, again)


def test_a_weight_changed_before_backward_is_refused():
    head = build("arcface", DIM, CLASSES)
    feature_BD, label_B = batches(torch.float32)[0]
    loss = head(feature_BD, label_B).loss
    head.weight.data  # noqa: B018 - reading it is allowed
    with torch.no_grad():
        head.weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_no_gradient_keeps_nothing():
    head = build("adaface", DIM, CLASSES)
    feature_BD, label_B = batches(torch.float32)[0]
    with torch.no_grad():
        assert not head(feature_BD, label_B).loss.requires_grad
    head.weight.requires_grad_(requires_grad=False)
    feature_BD.requires_grad_()
    head(feature_BD, label_B).loss.backward()
    assert feature_BD.grad is not None


def test_the_gradient_of_the_weight_is_laid_out_like_the_weight():
    for size in (4, 40):  # below and above the feature dimension
        head = build("cosface", DIM, CLASSES)
        head.mode = "store"
        head(torch.randn(size, DIM), torch.arange(size)).loss.backward()
        assert head.weight.grad.shape == head.weight.shape
        assert head.weight.grad.is_contiguous()


def test_auto_stores_what_is_small_or_free():
    head = build("cosface", DIM, CLASSES)
    head.tuned = replace(tuning.CPU, store_bytes=17 * CLASSES * 4)
    assert [head.stores(size) for size in (16, 17, 18)] == [True, True, False]
    head.tuned = replace(tuning.CPU, store_bytes=0)
    assert [head.stores(size) for size in (16, 17)] == [True, False]
    head.mode = "store"
    assert head.stores(1000)


@pytest.mark.parametrize("label", [-1, CLASSES])
def test_a_label_that_is_no_class_is_refused(label: int):
    feature_BD, label_B = batches(torch.float32)[0]
    label_B[3] = label
    with pytest.raises(ValueError, match=rf"labels should be in 0\.\.{CLASSES - 1}"):
        build("arcface", DIM, CLASSES)(feature_BD, label_B)


def test_half_precision_features_are_raised_to_single():
    feature_BD, label_B = batches(torch.float32)[0]
    wanted = build("adaface", DIM, CLASSES)(feature_BD.half().float(), label_B).loss
    with torch.autocast("cpu", torch.bfloat16):
        output = build("adaface", DIM, CLASSES)(feature_BD.half(), label_B)
    assert torch.equal(output.loss, wanted)


def test_a_feature_of_length_zero_gets_no_gradient():
    feature_BD, label_B = batches(torch.float32)[0]
    feature_BD[2] = 0
    feature_BD.requires_grad_()
    head = build("arcface", DIM, CLASSES)
    head(feature_BD, label_B).loss.backward()
    assert feature_BD.grad[2].abs().max() == 0
    assert feature_BD.grad[3].abs().max() > 0
    assert head.weight.grad.isfinite().all()


def test_the_nearest_other_centre_is_told():
    feature_BD, label_B = batches(torch.float32)[1]
    head = build("mv_softmax", DIM, CLASSES)
    cosine_BC, _ = head.cosines(feature_BD)
    cosine_BC[torch.arange(SIZE), label_B] = -2
    torch.testing.assert_close(head(feature_BD, label_B).nearest_cosine_B, cosine_BC.amax(dim=1).detach())


def test_a_target_far_above_the_others_leaves_a_gradient_where_plain_softmax_has_none():
    weight_CD = torch.eye(8)[:4]
    feature_BD = 16 * torch.eye(8)[:1]
    slopes = []
    for dtype in (torch.float32, torch.float64):
        head = build("softmax", 8, 4).to(dtype)
        head.weight.data.copy_(weight_CD)
        mine_BD = (feature_BD + 0.5).to(dtype).requires_grad_()
        head(mine_BD, torch.tensor([0])).loss.backward()
        slopes.append(mine_BD.grad)
    assert 0 < slopes[1].norm() < 1e-20
    assert off(slopes[0], slopes[1]) < 1e-4
