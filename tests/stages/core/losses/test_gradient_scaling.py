"""The gradient scaling term against the formulas that AdaFace's section 3.1 derives for each margin, and against differences."""

from __future__ import annotations

import math

import pytest
import torch

from stages.core.errors import InputError
from stages.core.losses import gradient_scaling
from stages.core.losses.gradient_scaling import angle_shift, cosine_shift, lead
from stages.run_page.head_settings import Setting, published

APART = 1.2
ANGLE_K = torch.linspace(0.153, 1.097, 20, dtype=torch.float64)  # beside the angles where margins begin
NORMS = {"batch_mean": 20.0, "batch_std": 5.0}


def drawn(setting: Setting, norm: float = 20.0) -> torch.Tensor:
    return gradient_scaling.gradient_scaling(setting.build(), ANGLE_K, torch.full_like(ANGLE_K, norm), APART)


def by_formula(moved_K: torch.Tensor, slope_K: torch.Tensor, scale: float = 64.0) -> torch.Tensor:
    """(1 - P_y) |df/dcos| with two classes, the other one's cosine unchanged."""
    return torch.sigmoid(scale * ((APART - ANGLE_K).cos() - moved_K)) * slope_K


def test_plain_softmax_pulls_by_how_wrong_it_is():
    wanted = by_formula(ANGLE_K.cos(), torch.ones_like(ANGLE_K))
    torch.testing.assert_close(drawn(Setting("", {"name": "softmax"})), wanted)


def test_an_additive_margin_moves_the_boundary_and_not_the_slope():
    wanted = by_formula(ANGLE_K.cos() - 0.35, torch.ones_like(ANGLE_K))
    torch.testing.assert_close(drawn(Setting("", {"name": "cosface", "margin": 0.35})), wanted)


def test_an_angular_margin_has_arcfaces_slope():
    slope_K = math.cos(0.5) + ANGLE_K.cos() * math.sin(0.5) / ANGLE_K.sin()
    wanted = by_formula((ANGLE_K + 0.5).cos(), slope_K)
    torch.testing.assert_close(drawn(Setting("", {"name": "arcface", "margin": 0.5})), wanted)


def test_insightfaces_arcface_has_the_slope_of_softmax():
    section = {"name": "arcface", "margin": 0.5, "gradient": "straight_through", "beyond_pi": "wrap"}
    wanted = by_formula((ANGLE_K + 0.5).cos(), torch.ones_like(ANGLE_K))
    torch.testing.assert_close(drawn(Setting("", section)), wanted)


@pytest.mark.parametrize(("norm", "q"), [(5.0, -0.999), (20.0, 0.0), (25.0, 0.333), (60.0, 1.0)])
def test_adafaces_margins_follow_the_norm(norm: float, q: float):
    if norm == 5.0:
        q = max(-1.0, 0.333 * (norm - 20) / 5.001)
    elif norm == 25.0:
        q = 0.333 * (norm - 20) / 5.001
    angle_K = ANGLE_K - 0.4 * q
    wanted = by_formula(angle_K.cos() - 0.4 * (1 + q), angle_K.sin() / ANGLE_K.sin())
    inside = angle_K > 0.05  # the head clips angles at 0
    got = drawn(Setting("", {"name": "adaface", "margin": 0.4, "h": 0.333}, NORMS), norm)
    torch.testing.assert_close(got[inside], wanted[inside], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("setting", published(), ids=lambda setting: setting.title)
def test_it_is_the_losses_own_slope(setting: Setting):
    """By differences of the loss; the gradients of insightface's ArcFace and of SphereFace are on purpose not their losses'."""
    if setting.section.get("gradient") == "straight_through" or setting.section["name"] in ("sphereface", "uniface"):
        return
    head, step = setting.build(), 1e-6
    norm_K = torch.full_like(ANGLE_K, sum(setting.norms()) / 2)
    losses = []
    for sign in (-1, 1):
        cosine_K2 = torch.stack([ANGLE_K.cos() + sign * step, (APART - ANGLE_K).cos()], dim=1)
        moved_K2 = head.with_margin(cosine_K2, norm_K, torch.zeros(len(ANGLE_K), dtype=torch.int64))
        losses.append(head.scale * (moved_K2[:, 1] - moved_K2[:, 0]))
    # of log(1 + exp(z)) the slope is sigmoid(z) dz
    slope_K = torch.sigmoid((losses[0] + losses[1]) / 2) * (losses[0] - losses[1]).abs() / (2 * step) / head.scale
    torch.testing.assert_close(drawn(setting, float(norm_K[0])), slope_K, rtol=2e-3, atol=2e-4)


def test_statistics_stay_where_they_were_set():
    head = Setting("", {"name": "adaface", "margin": 0.4, "h": 0.333}, NORMS).build()
    for _ in range(20):
        cosine_shift(head, ANGLE_K, torch.full_like(ANGLE_K, 90.0))
    assert dict(head.named_buffers())["batch_mean"].item() == pytest.approx(20.0, abs=1e-8)


def test_magfaces_margin_is_the_published_line():
    head = Setting("", {"name": "magface"}).build()
    norm_K = torch.tensor([5.0, 10.0, 60.0, 110.0, 150.0], dtype=torch.float64)
    shift_K = angle_shift(head, torch.full_like(norm_K, 0.6), norm_K)
    torch.testing.assert_close(shift_K, torch.tensor([0.45, 0.45, 0.625, 0.8, 0.8], dtype=torch.float64))


def test_an_angle_beyond_pi_has_no_shift():
    head = Setting("", {"name": "cosface", "margin": 0.9}).build()
    angle_K = torch.tensor([0.5, 2.9], dtype=torch.float64)
    assert angle_shift(head, angle_K, torch.ones_like(angle_K)).isnan().tolist() == [False, True]


def test_both_classes_are_equally_likely_where_the_lead_is_0():
    setting = Setting("", {"name": "cosface", "margin": 0.35})
    ahead_K = lead(setting.build(), ANGLE_K, torch.full_like(ANGLE_K, 20.0), APART)
    torch.testing.assert_close(ahead_K, ANGLE_K.cos() - 0.35 - (APART - ANGLE_K).cos())


def test_a_head_whose_margin_follows_another_quality_is_refused():
    setting = Setting("", {"name": "adaface", "margin": 0.4, "h": 0.333, "proxy": "one_minus_brisque"})
    with pytest.raises(InputError, match="no feature norm"):
        drawn(setting)


def test_a_detached_multiplied_angle_has_the_slope_of_softmax():
    angle_K = 1.7 * ANGLE_K
    wanted = by_formula(angle_K.cos(), torch.ones_like(ANGLE_K))
    torch.testing.assert_close(drawn(Setting("", {"name": "sphereface", "margin": 1.7})), wanted)


@pytest.mark.parametrize("threshold", [None, 0.3])
def test_uniface_pulls_by_how_far_a_face_is_below_its_threshold_whatever_the_other_class(threshold: float | None):
    setting = Setting("", {"name": "uniface", "margin": 0.4}, {} if threshold is None else {"bias": 64 * threshold})
    at, step, head = math.log(20) if threshold is None else 64 * threshold, 1e-6, setting.build()
    below, above = (head.binary(at - 64 * (ANGLE_K.cos() + sign * step - 0.4)) for sign in (-1, 1))
    torch.testing.assert_close(drawn(setting), (below - above) / (2 * step) / 64, rtol=1e-5, atol=1e-7)
    norm_K = torch.full_like(ANGLE_K, 20.0)
    torch.testing.assert_close(lead(setting.build(), ANGLE_K, norm_K, APART), ANGLE_K.cos() - 0.4 - at / 64)
