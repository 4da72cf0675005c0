"""Heads against numbers made by the authors' own code (../shared/golden/README.md names them)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from stages.runtime import plugins

# file -> our head and how its parameters are called in the file
CASES: dict[str, dict[str, Any]] = {
    "adaface": {"name": "adaface", "margin": "m", "h": "h", "scale": "s", "t_alpha": "t_alpha"},
    "arcface_adaface_repo": {"name": "arcface", "margin": "m", "scale": "s"},
    "arcface": {"name": "arcface", "margin": "m", "scale": "s", "!beyond_pi": "shift"},
    "cosface": {"name": "cosface", "margin": "m", "scale": "s"},
    "curricularface": {"name": "curricularface", "margin": "m", "scale": "s"},
    "magface": {
        "name": "magface", "min_norm": "l_a", "max_norm": "u_a", "scale": "scale",
        "min_margin": "l_margin", "max_margin": "u_margin", "norm_weight": "lambda_g",
    },
}  # fmt: skip
# copied from ../shared/golden, so that it is always tested
KEPT = Path(__file__).parents[2] / "golden"
STATE = {"adaface": ("batch_mean", "batch_std"), "curricularface": ("t",)}


def head_of(case: dict[str, Any], numbers: Any, feature_dim: int, num_classes: int) -> Any:
    fields = {
        key.lstrip("!"): value if key == "name" or key.startswith("!") else float(numbers[value])
        for key, value in case.items()
    }
    module = plugins.load("heads", case["name"])
    return module.Head(module.Config(**fields), feature_dim, num_classes)


def off(measured: torch.Tensor, golden: Any) -> float:
    """Norm of the difference over the norm of the golden values."""
    wanted = torch.as_tensor(np.asarray(golden, dtype=np.float64))
    return float((measured.double() - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("file", CASES)
def test_three_steps_equal_the_authors_code(file: str, golden: Path):
    with np.load(golden / f"{file}.npz") as numbers:
        head = head_of(CASES[file], numbers, *numbers["weight"].shape)
        twin = head_of(CASES[file], numbers, *numbers["weight"].shape)
        weight_CD = torch.from_numpy(numbers["weight"].T.copy())
        for module in (head, twin):
            module.weight.data.copy_(weight_CD)
        for step in range(3):
            feature_BD = torch.from_numpy(numbers["features"][step]).requires_grad_()
            label_B = torch.from_numpy(numbers["labels"][step])
            logits_BC = twin.logits(feature_BD.detach(), label_B)
            wanted_BC = torch.from_numpy(numbers["logits"][step])
            torch.testing.assert_close(logits_BC, wanted_BC, rtol=1e-5, atol=2e-5)
            output = head(feature_BD, label_B)
            assert float(output.loss.detach()) == pytest.approx(float(numbers["loss"][step]), rel=1e-5)
            head.zero_grad()
            output.loss.backward()
            assert off(feature_BD.grad, numbers["grad_features"][step]) < 1e-5
            assert off(head.weight.grad.T, numbers["grad_weight"][step]) < 1e-5
            for name in STATE.get(file, ()):
                assert float(getattr(head, name)) == pytest.approx(float(numbers[name][step]), rel=1e-6)


EXACT: dict[str, dict[str, Any]] = {
    "adaface_m.4_h.333_t.01": {"name": "adaface", "margin": 0.4, "h": 0.333},
    "adaface_settled_mean20_std10": {"name": "adaface", "margin": 0.4, "h": 0.333, "initial_std": 10.0},
    "cvlface_adaface": {"name": "adaface", "margin": 0.4, "h": 0.333, "program": "cvlface"},
    "cosface_m.4": {"name": "cosface", "margin": 0.4},
    "arcface_m.5": {"name": "arcface", "margin": 0.5},
    "crfiqa": {"name": "arcface", "margin": 0.5, "beyond_pi": "wrap"},
    "insightface_arc_1_.5_0": {
        "name": "arcface", "margin": 0.5, "gradient": "straight_through", "beyond_pi": "wrap"
    },
    "insightface_cos_1_0_.4": {"name": "cosface", "margin": 0.4},
    "insightface_arc_filter.4": {
        "name": "arcface", "margin": 0.5, "gradient": "straight_through", "beyond_pi": "wrap",
        "interclass_filter": 0.4,
    },
    "curricularface_m.5": {"name": "curricularface", "margin": 0.5},
    "facexzoo_mv_am": {"name": "mv_softmax", "kind": "am", "margin": 0.35},
    "facexzoo_mv_arc": {"name": "mv_softmax", "kind": "arc", "margin": 0.35},
}  # fmt: skip


def exact_inputs(tree: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    def double(name: str) -> torch.Tensor:
        return torch.tensor(tree["inputs"][name], dtype=torch.float64)

    return double("X").requires_grad_(), double("K").T.contiguous(), torch.tensor(tree["inputs"]["labels"])


@pytest.mark.parametrize("case", EXACT)
def test_float64_values_equal_the_authors_code(case: str):
    tree = json.loads((KEPT / "heads.json").read_text())
    feature_BD, weight_CD, label_B = exact_inputs(tree)
    module = plugins.load("heads", EXACT[case]["name"])

    def head() -> Any:
        made = module.Head(module.Config(**EXACT[case]), 8, 6).double()
        made.weight.data.copy_(weight_CD)
        return made

    logits_BC = head().logits(feature_BD, label_B)
    torch.testing.assert_close(
        logits_BC, torch.tensor(tree[case]["logits"], dtype=torch.float64), rtol=1e-9, atol=1e-9
    )
    used = head()
    output = used(feature_BD, label_B)
    torch.testing.assert_close(output.loss, functional.cross_entropy(logits_BC, label_B), rtol=1e-12, atol=0)
    assert float(output.loss.detach()) == pytest.approx(tree[case]["ce"], rel=1e-9)
    output.loss.backward()
    assert off(feature_BD.grad, tree[case]["grad_X"]) < 1e-9
    for name, key in (("batch_mean", "batch_mean"), ("batch_std", "batch_std"), ("t", "t_after")):
        if key in tree[case]:
            assert float(getattr(used, name)) == pytest.approx(tree[case][key][0], rel=1e-9)


@pytest.mark.parametrize(("case", "easy_margin"), [("magface_easy", True), ("magface_noteasy", False)])
def test_magface_float64_values_equal_the_authors_code(case: str, easy_margin: bool):
    tree = json.loads((KEPT / "heads.json").read_text())
    feature_BD, weight_CD, label_B = exact_inputs(tree)
    module = plugins.load("heads", "magface")
    head = module.Head(module.Config(name="magface", easy_margin=easy_margin), 8, 6).double()
    head.weight.data.copy_(weight_CD)
    moved_BC = torch.tensor(tree[case]["cos_theta_m_s"], dtype=torch.float64)
    plain_BC = torch.tensor(tree[case]["cos_theta_s"], dtype=torch.float64)
    wanted_BC = plain_BC.scatter(1, label_B[:, None], moved_BC.gather(1, label_B[:, None]))
    torch.testing.assert_close(head.logits(feature_BD, label_B), wanted_BC, rtol=1e-9, atol=1e-9)
    output = head(feature_BD, label_B)
    assert float(output.terms["norm_penalty"]) == pytest.approx(tree[case]["loss_g"], rel=1e-9)
    assert float(output.loss.detach()) == pytest.approx(tree[case]["total_lambda35"], rel=1e-9)
    output.loss.backward()
    assert off(feature_BD.grad, tree[case]["grad_X"]) < 1e-9
