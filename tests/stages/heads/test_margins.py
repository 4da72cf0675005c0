"""SphereFace, combined margins, ElasticFace and UniFace against numbers made by the authors' code (tests/golden/make_margins.py)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from stages.runtime import plugins

KEPT = Path(__file__).parents[2] / "golden"
CASES: dict[str, dict[str, Any]] = {
    **{
        f"sphereface_r_{variant}": {
            "name": "sphereface", "margin": 1.7, "scale": 60.0, "variant": variant, "loss_weight": 50 / 60
        }
        for variant in ("v0", "v1", "v2")
    },
    "sphereface": {"name": "sphereface", "margin": 1.7},
    "combined_1.0_0.3_0.2": {"name": "combined", "m1": 1.0, "m2": 0.3, "m3": 0.2},
    "combined_1.35_0.1_0.05": {"name": "combined", "m1": 1.35, "m2": 0.1, "m3": 0.05},
    "combined_1.0_0.0_0.35": {"name": "combined", "m1": 1.0, "m2": 0.0, "m3": 0.35},
    **{
        f"elasticface_{kind}{'_plus' if plus else ''}": {
            "name": "elasticface", "margin_kind": kind, "margin": 0.4, "plus": plus
        }
        for kind in ("arc", "cosine")
        for plus in (False, True)
    },
    "uniface": {"name": "uniface", "margin": 0.4},
    "uniface_l_r": {"name": "uniface", "margin": 0.35, "scale": 30.0, "negatives_weight": 0.3, "sample_rate": 0.5},
}  # fmt: skip


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    tree = json.loads((KEPT / "margins.json").read_text())
    inputs = json.loads((KEPT / "heads.json").read_text())["inputs"]
    made: dict[str, Any] = tree | {
        "X": torch.tensor(inputs["X"], dtype=torch.float64), "labels": torch.tensor(inputs["labels"]),
        "K": functional.normalize(torch.tensor(inputs["K"], dtype=torch.float64), dim=0),
    }  # fmt: skip
    return made


def head_of(case: str, golden: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    module = plugins.load("heads", CASES[case]["name"])
    head = module.Head(module.Config(**CASES[case]), 8, 6).double()
    head.weight.data.copy_(golden["K"].T)
    if "margins" in golden[case]:
        drawn_B = torch.tensor(golden[case]["margins"], dtype=torch.float64)
        monkeypatch.setattr(head, "drawn", lambda like_B: drawn_B.clone())
    return head


def close(measured: torch.Tensor, wanted: Any) -> None:
    wanted = torch.as_tensor(wanted, dtype=torch.float64)
    assert float((measured.detach() - wanted).norm() / wanted.norm()) < 1e-9


@pytest.mark.parametrize("case", CASES)
def test_float64_values_equal_the_authors_code(case: str, golden: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    head, wanted = head_of(case, golden, monkeypatch), golden[case]
    feature_BD = golden["X"].clone().requires_grad_()
    if "logits" in wanted:
        close(head.logits(feature_BD.detach(), golden["labels"]), wanted["logits"])
    if "bias" in wanted:
        assert float(head.bias.detach()) == pytest.approx(wanted["bias"], rel=1e-6)
        head.bias.data.fill_(wanted["bias"])
    loss = head(feature_BD, golden["labels"]).loss
    loss.backward()
    assert float(loss.detach()) == pytest.approx(wanted["loss"], rel=1e-9)
    close(feature_BD.grad, wanted["grad_X"])
    if "grad_bias" in wanted:
        assert float(head.bias.grad) == pytest.approx(wanted["grad_bias"], rel=1e-9)
    if "grad_K" in wanted:
        gradient_CD, centre_CD = torch.tensor(wanted["grad_K"], dtype=torch.float64).T, golden["K"].T
        # SphereFace's program brings centres to unit length outside the graph: ours lacks the part along the centre
        along_C1 = (gradient_CD * centre_CD).sum(dim=1, keepdim=True)
        close(head.weight.grad, gradient_CD - along_C1 * centre_CD)


def test_the_gradient_of_elasticface_and_uniface_has_no_part_along_the_centre_there_either(golden: dict[str, Any]):
    for case in ("elasticface_arc", "uniface"):
        gradient_CD = torch.tensor(golden[case]["grad_K"], dtype=torch.float64).T
        assert float((gradient_CD * golden["K"].T).sum(dim=1).abs().max()) < 1e-9


@pytest.mark.parametrize("variant", ["v0", "v1"])
def test_spherefaces_logit_falls_all_the_way_from_0_to_pi(variant: str):
    module = plugins.load("heads", "sphereface")
    head = module.Head(module.Config(name="sphereface", margin=3.5, variant=variant), 8, 6)
    moved_B = head.enlarged(torch.linspace(0, torch.pi, 400).cos())
    falls = moved_B.diff() <= 1e-4
    assert falls.all()
    if variant == "v0":
        assert float(moved_B[-1]) == pytest.approx(-6, abs=0.05)  # three half turns, then cos(3.5 pi) = 0
    else:
        assert float(moved_B[-1]) == pytest.approx(-1, abs=1e-4)


def test_elasticfaces_margins_are_spread_around_their_mean_and_depend_on_the_seed_alone():
    module = plugins.load("heads", "elasticface")
    head = module.Head(module.Config(name="elasticface", margin_kind="arc", margin=0.5, deviation=0.05), 8, 6)
    torch.manual_seed(3)
    first_B = head.margins(torch.zeros(4000))
    torch.rand(7)  # dropout, say
    assert torch.equal(head.margins(torch.zeros(4000)), first_B)
    assert (float(first_B.mean()), float(first_B.std())) == (pytest.approx(0.5, abs=3e-3), pytest.approx(0.05, abs=3e-3))
    torch.manual_seed(4)
    assert not torch.equal(head.margins(torch.zeros(4000)), first_B)


def test_unifaces_threshold_moves_between_genuine_and_impostor_cosines():
    """Trained on fixed features: all own cosines come above one threshold, and all others below it."""
    torch.manual_seed(0)
    feature_BD, label_B = 5 * torch.eye(8).repeat(3, 1) + 0.3 * torch.randn(24, 8), torch.arange(8).repeat(3)
    module = plugins.load("heads", "uniface")
    head = module.Head(module.Config(name="uniface", margin=0.2), 8, 8)
    optimiser = torch.optim.SGD(head.parameters(), lr=0.05, momentum=0.9)
    for _ in range(150):
        optimiser.zero_grad()
        output = head(feature_BD, label_B)
        output.loss.backward()
        optimiser.step()
    threshold = float(output.terms["threshold"])
    assert float(output.target_cosine_B.min()) > threshold > float(output.nearest_cosine_B.max())
