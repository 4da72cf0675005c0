"""Sub-centres against numbers made by the authors' code (tests/golden/make_subcentres.py), and what they are for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from stages import train_backbone, train_quality
from stages.core.losses import sub_centres
from stages.runtime import artifacts, plugins, program
from stages.training import networks
from tests.stages import training_data
from tests.stages.heads.support import build
from tests.stages.small_training import config

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.mark.parametrize("count", [1, 3])
def test_float64_values_equal_the_authors_code(count: int) -> None:
    wanted = json.loads((GOLDEN / "subcentres.json").read_text())[f"centres_{count}"]
    inputs = json.loads((GOLDEN / "heads.json").read_text())["inputs"]
    label_B = torch.tensor(inputs["labels"])
    module = plugins.load("heads", "subcenter_arcface")
    head = module.Head(module.Config(name="subcenter_arcface", margin=0.5, centres=count), 8, 6).double()
    head.weight.data.copy_(torch.tensor(wanted["weight"], dtype=torch.float64).view(6, -1))
    feature_BD = torch.tensor(inputs["X"], dtype=torch.float64, requires_grad=True)
    output = head(feature_BD, label_B)
    output.loss.backward()
    assert float(output.loss.detach()) == pytest.approx(wanted["loss"], rel=1e-9)
    for measured, expected in (
        (head.logits(feature_BD.detach(), label_B), wanted["logits"]),
        (feature_BD.grad, wanted["grad_X"]),
        (head.weight.grad.view(-1, 8), wanted["grad_W"]),
    ):
        expected = torch.tensor(expected, dtype=torch.float64)
        assert float((measured.detach() - expected).norm() / expected.norm()) < 1e-9


def test_with_one_centre_it_is_arcface() -> None:
    torch.manual_seed(3)
    feature_BD, label_B = 9 * torch.randn(16, 8), torch.arange(16) % 5
    ours, theirs = build("subcenter_arcface", centres=1), build("arcface", beyond_pi="wrap")
    theirs.weight.data.copy_(ours.weight)
    torch.testing.assert_close(ours(feature_BD, label_B).loss, theirs(feature_BD, label_B).loss)


def test_wrong_labels_gather_at_a_centre_of_their_own_and_the_dominant_one_is_that_of_the_others() -> None:
    """Each class has a third of its images from somewhere else: one centre would lie between."""
    torch.manual_seed(0)
    true_CD, wrong_CD = (functional.normalize(torch.randn(4, 8), dim=1) for _ in range(2))
    label_N = torch.arange(240) % 4
    is_wrong_N = torch.arange(240) % 12 < 4
    feature_ND = torch.where(is_wrong_N[:, None], wrong_CD[label_N], true_CD[label_N]) + 0.1 * torch.randn(240, 8)
    cosine = {}
    for count in (1, 3):
        head = build("subcenter_arcface", 8, 4, centres=count, scale=16.0)
        optimiser = torch.optim.SGD(head.parameters(), lr=0.1)
        for _ in range(60):
            optimiser.zero_grad()
            head(feature_ND, label_N).loss.backward()
            optimiser.step()
        centre_CD = sub_centres.dominant(head.weight.detach(), feature_ND, label_N)
        cosine[count] = functional.cosine_similarity(centre_CD, true_CD).mean()
    assert cosine[3] > 0.9 > 0.6 > cosine[1]


def test_objectives_that_need_one_centre_are_refused_in_a_sentence() -> None:
    asked = config("subcenter_arcface")
    assert networks.build(asked, 6).head.weight.shape[1] == 3 * asked.backbone["feature_dim"]
    quality = asked.model_copy(update={"objective": {"name": "cr_fiqa"}})
    with pytest.raises(ValueError, match="objective cr_fiqa compares features with one centre of each class, and head sub"):
        networks.build(quality, 6)


@pytest.mark.slow
def test_a_run_with_sub_centres_is_used_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes after the training knows one centre for each class, and the network's own width."""
    training_data.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stages.runtime.artifacts.STATE", tmp_path / ".facet")
    asked = config("subcenter_arcface", epochs=1)
    sections = {"train": asked.model_dump(mode="json"), "quality": {"name": "cr_fiqa", "target": "paper", "views": 1}}
    artifacts.write_yaml(tmp_path / "resolved/runs/run.yaml", sections)
    for stage in (train_backbone, train_quality):
        assert program.run(stage.main, stage.parser(), ["run"]) == 0
    model = artifacts.read_json(tmp_path / "runs/run/backbone/model.json")
    assert model["feature_dim"] == asked.backbone["feature_dim"]
    assert artifacts.read_json(tmp_path / "results/run/quality.json")["images"] > 0
