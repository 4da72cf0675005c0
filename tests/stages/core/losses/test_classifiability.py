"""CR-FIQA's targets and loss against its released code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from stages.core.losses import classifiability

KEPT = Path(__file__).parents[3] / "golden"


def test_three_steps_equal_the_released_code(golden: Path):
    with np.load(golden / "cr_fiqa.npz") as numbers:
        weight_CD = functional.normalize(torch.from_numpy(numbers["weight"].T.copy()), dim=1)
        for step in range(3):
            embedding_BD = functional.normalize(torch.from_numpy(numbers["features"][step]), dim=1)
            label_B = torch.from_numpy(numbers["labels"][step])
            cosine_BC = embedding_BD @ weight_CD.T
            ccs_B, nnccs_B = classifiability.ccs_and_nnccs(cosine_BC, label_B, floor=True)
            np.testing.assert_allclose(ccs_B, numbers["ccs"][step][:, 0], rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(nnccs_B, numbers["nnccs"][step][:, 0], rtol=1e-5, atol=1e-6)
            quality_B = torch.from_numpy(numbers["quality"][step][:, 0]).requires_grad_()
            target_B = classifiability.target("code", cosine_BC, label_B)
            loss = classifiability.loss(quality_B, target_B, float(numbers["beta"]))
            assert float(loss.detach()) == pytest.approx(float(numbers["loss_quality"][step]), rel=1e-5)
            cross_entropy = functional.cross_entropy(torch.from_numpy(numbers["logits"][step]), label_B)
            total = cross_entropy + float(numbers["alpha"]) * loss
            assert float(total.detach()) == pytest.approx(float(numbers["loss"][step]), rel=1e-5)
            total.backward()
            wanted_B = numbers["grad_quality"][step][:, 0]
            np.testing.assert_allclose(quality_B.grad, wanted_B, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("form", "key"), [("paper", "target_paper"), ("code", "target_code")])
def test_float64_targets_equal_the_papers_and_the_codes(form: classifiability.Form, key: str):
    tree = json.loads((KEPT / "heads.json").read_text())
    feature_BD = torch.tensor(tree["inputs"]["X"], dtype=torch.float64)
    weight_CD = torch.tensor(tree["inputs"]["K"], dtype=torch.float64).T
    cosine_BC = functional.normalize(feature_BD, dim=1) @ functional.normalize(weight_CD, dim=1).T
    target_B = classifiability.target(form, cosine_BC, torch.tensor(tree["inputs"]["labels"]))
    np.testing.assert_allclose(target_B, tree["crfiqa"][key], rtol=1e-9)


def test_only_the_later_code_sees_that_every_other_class_is_far():
    cosine_BC = torch.tensor([[0.5, -0.2, -0.4]], dtype=torch.float64)
    label_B = torch.tensor([0])
    assert float(classifiability.target("paper", cosine_BC, label_B)) == pytest.approx(0.5)
    assert float(classifiability.target("vit_fiqa", cosine_BC, label_B)) == pytest.approx(0.5 / 0.8)
    assert float(classifiability.target("code", cosine_BC, label_B)) < -1e11
