"""QGFace over heads: equal to the authors' code over AdaFace, and at work over every other head."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.core.losses.feature_queue import FeatureQueue, class_centres
from stages.core.losses.head import CosineHead
from stages.objectives import qgface
from stages.runtime import plugins

HEADS: dict[str, dict[str, Any]] = {
    "adaface": {"margin": 0.4, "h": 0.333, "initial_mean": 0, "initial_std": 0},
    "arcface": {"margin": 0.5},
    "cosface": {"margin": 0.35},
    "curricularface": {"margin": 0.5},
    "magface": {},
    "mv_softmax": {"kind": "am", "margin": 0.35},
    "softmax": {},
}


def make_head(name: str, dim: int, classes: int, **fields: Any) -> CosineHead:
    module = plugins.load("heads", name)
    config = module.Config.model_validate({"name": name, **HEADS[name], **fields})
    head: CosineHead = module.Head(config, dim, classes)
    return head


def make(dim: int = 16, **fields: Any) -> qgface.QGFace:
    return qgface.build(qgface.Config.model_validate({"name": "qgface", **fields}), dim, 10)


def as_is(image: Tensor) -> Tensor:
    return image


def test_three_steps_over_adaface_are_the_authors(golden: Path) -> None:
    given = np.load(golden / "qgface.npz")
    dim, classes = given["weight"].shape
    head = make_head("adaface", dim, classes)
    head.weight.data = torch.tensor(given["weight"].T.copy())
    objective = make(dim, threshold=0.5, queue_size=len(given["queue"]))
    assert objective.queue is not None
    for step in range(3):
        # the released step hands the queue in anew each time
        objective.queue.put(torch.tensor(given["queue"]), torch.tensor(given["queue_labels"]), None)
        pair = torch.tensor(given[f"features_pair_{step}"], requires_grad=True)
        label_B = torch.tensor(given["labels"][step])
        head.weight.grad = None
        output = objective(as_is, head, pair.chunk(2), label_B, 0.0)
        output.loss.backward()
        assert float(output.loss.detach()) == pytest.approx(float(given["loss"][step]), rel=1e-5)
        assert float(output.terms["contrast"]) == pytest.approx(float(given["loss_contrastive"][step]), rel=1e-5)
        assert pair.grad is not None
        assert head.weight.grad is not None
        for got, wanted in ((pair.grad, given["grad_features"][step]), (head.weight.grad, given["grad_weight"][step].T)):
            wanted = torch.tensor(wanted)
            assert (got - wanted).norm() <= 1e-4 * wanted.norm()


@pytest.mark.parametrize("fresh", [True, False])
def test_quality_split_classification_is_the_authors(golden: Path, fresh: bool) -> None:
    tree = json.loads((golden / "heads.json").read_text())
    given = tree["qgface_adaface_QS.2_fresh_buffers" if fresh else "qgface_adaface_QS.2_mean20_std10"]
    feature_BD = torch.tensor(tree["inputs"]["X"], dtype=torch.float64)
    weight_CD = torch.tensor(tree["inputs"]["K"], dtype=torch.float64).T.contiguous()
    start = {} if fresh else {"initial_mean": 20, "initial_std": 10}
    head = make_head("adaface", *weight_CD.T.shape, **start).double()
    head.weight.data = weight_CD
    objective = make(feature_BD.shape[1], contrast_weight=0, threshold=0.2).double()
    if not fresh:
        objective.norms.mean.fill_(20)
        objective.norms.std.fill_(10)
    # the fixture has one view: the released head sees it once
    label_B = torch.tensor(tree["inputs"]["labels"])
    scaler_B = objective.norms(feature_BD.norm(dim=1), head.shard)
    assert torch.allclose(scaler_B, torch.tensor(given["margin_scaler"]).double(), rtol=1e-6)
    factor_B = qgface.contrastive.split_factor(scaler_B, 0.2, 64.0)
    assert torch.allclose(factor_B, torch.tensor(given["quality_scaler"]).double(), rtol=1e-6)
    output = objective._classify(head, feature_BD, label_B, scaler_B, 0.2)
    assert float(output.loss.detach()) == pytest.approx(given["loss"], rel=1e-7)


@pytest.mark.parametrize("name", sorted(HEADS))
def test_a_factor_scales_the_logits_of_its_row_over_every_head(name: str) -> None:
    torch.manual_seed(0)
    feature_BD, label_B = 10 * torch.randn(6, 16, dtype=torch.float64), torch.arange(6)
    factor_B = torch.tensor([1.0, 0.5, 0.0, 1.0, 0.25, 0.0], dtype=torch.float64)
    losses, gradients = [], []
    for lean in (True, False):
        head = make_head(name, 16, 10).double()
        head.weight.data = functional.normalize(torch.arange(160.0).reshape(10, 16).double().sin(), dim=1)
        given = feature_BD.clone().requires_grad_()
        if lean:
            loss = head(given, label_B, factor_B=factor_B).loss
        else:
            loss = functional.cross_entropy(head.logits(given, label_B) * factor_B[:, None], label_B)
            added = head.penalty(given.norm(dim=1))
            loss = loss if added is None else loss + added[0]
        loss.backward()
        assert given.grad is not None
        assert head.weight.grad is not None
        losses.append(float(loss.detach()))
        gradients.append(torch.cat([given.grad, head.weight.grad]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)
    assert (gradients[0] - gradients[1]).norm() <= 1e-8 * gradients[1].norm()


@pytest.mark.parametrize(
    ("name", "queue"),
    [*((name, "plain") for name in sorted(HEADS)), *(("cosface", queue) for queue in ("none", "proxy", "momentum"))],
)
def test_every_head_trains_with_every_queue(name: str, queue: str) -> None:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(12, 16))
    head = make_head(name, 16, 10, scale=16.0)
    objective = make(queue=queue, queue_size=48, encoder_momentum=0.5)
    objective.attach(backbone)
    optimiser = torch.optim.SGD([*backbone.parameters(), *head.parameters()], lr=0.05)
    centre_C = torch.randn(10, 12)
    losses = []
    for step in range(20):
        label_B = torch.randint(10, (12,))
        high = centre_C[label_B] + 0.1 * torch.randn(12, 12)
        low = high + 0.5 * torch.randn(12, 12)
        output = objective(backbone, head, (high, low), label_B, step / 10)
        optimiser.zero_grad()
        output.loss.backward()
        optimiser.step()
        objective.after_step(backbone)
        losses.append(float(output.loss.detach()))
    assert all(np.isfinite(losses))
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


def test_an_unclear_image_is_not_classified_and_a_clear_pair_not_contrasted() -> None:
    torch.manual_seed(0)
    head = make_head("cosface", 16, 10)
    objective = make(threshold=0.5, queue="none")
    objective.norms.mean.fill_(20)
    objective.norms.std.fill_(1)
    objective.norms.t_alpha = 1e-9
    clear, unclear = 40 * functional.normalize(torch.randn(4, 16)), 5 * functional.normalize(torch.randn(4, 16))
    views = [torch.cat([clear, unclear]).requires_grad_(), torch.cat([clear, unclear]).roll(1, 0).requires_grad_()]
    parts = []
    for weight in (0.0, 1e6):
        for view in views:
            view.grad = None
        output = make_copy(objective, weight)(as_is, head, views, torch.arange(8), 0.0)
        output.loss.backward()
        parts.append(views[0].grad)
    assert parts[0][4:].abs().max() < 1e-20  # a steep sigmoid, not a step
    assert (parts[0][:4].norm(dim=1) > 1e-6).all()
    # rows 1 to 3 are clear in both views
    assert torch.allclose(parts[1][1:4], parts[0][1:4], atol=1e-5)
    assert (parts[1][4:].norm(dim=1) > 1e-3).all()


def make_copy(objective: qgface.QGFace, weight: float) -> qgface.QGFace:
    made = make(threshold=0.5, queue="none", contrast_weight=weight)
    made.norms.load_state_dict(objective.norms.state_dict())
    made.norms.t_alpha = objective.norms.t_alpha
    return made


def test_contrast_joins_and_leaves_and_the_threshold_warms_up() -> None:
    config = qgface.Config(name="qgface", join_epoch=3, leave_epoch=6, warmup_epochs=4, threshold=0.2)
    assert [config.contrast_weight_at(epoch) for epoch in (0, 2.9, 3, 5.9, 6)] == [0, 0, 1, 1, 0]
    assert [config.threshold_at(epoch) for epoch in (0, 0.9, 1, 2.5, 4, 9)] == pytest.approx([0, 0, 0.05, 0.1, 0.2, 0.2])
    head, objective = make_head("cosface", 16, 10), make(join_epoch=3)
    views = (torch.randn(4, 16), torch.randn(4, 16))
    before = objective(as_is, head, views, torch.arange(4), 0.0)
    after = make(join_epoch=3)(as_is, head, views, torch.arange(4), 3.0)
    assert float(after.loss.detach()) == pytest.approx(float(before.loss.detach() + after.terms["contrast"]))
    # what is not yet in force fills the queue and follows statistics
    assert int(objective.queue.filled) == 8


def test_only_the_batchs_own_images_are_masked_when_asked() -> None:
    objective = make(mask="same_image", queue_size=7)
    head = make_head("cosface", 16, 10)
    same = objective._masked(torch.tensor([3, 3]), torch.tensor([3, 3, 3, 3, 3, 1, 3]), 2, head.shard)
    assert same.tolist() == [[True, False, True, False, False, False, False], [False, True, False, True, False, False, False]]
    # a queue shorter than the batch
    assert objective._masked(torch.tensor([3, 3]), torch.tensor([3, 3, 3]), 2, head.shard).tolist() == [
        [True, False, True], [False, True, False],
    ]  # fmt: skip


def test_a_margin_may_be_fixed_or_follow_the_hardest_negative() -> None:
    head = make_head("cosface", 16, 10)
    views, label_B = (torch.randn(4, 16), torch.randn(4, 16)), torch.arange(4)
    plain, fixed = (
        float(make(margin_method=method, threshold=0)(as_is, head, views, label_B, 0.0).terms["contrast"])
        for method in ("none", "static")
    )
    assert fixed > plain
    moving = make(margin_method="dynamic", threshold=0, t_alpha=0.5)
    first = float(moving(as_is, head, views, label_B, 0.0).terms["contrast"])
    assert moving.hardest_distance != 0
    assert first != plain


def test_the_slow_copy_follows_and_is_not_trained() -> None:
    backbone = nn.Linear(16, 16, bias=False)
    objective = make(queue="momentum", encoder_momentum=0.75)
    objective.attach(backbone)
    start = backbone.weight.detach().clone()
    backbone.weight.data += 1
    objective.after_step(backbone)
    assert torch.allclose(objective.slow_backbone.weight, start + 0.25)
    assert not any(parameter.requires_grad for parameter in objective.parameters())
    assert any(name.startswith("slow_backbone.") for name in objective.state_dict())


def test_other_views_may_be_paired_and_one_alone_is_split_but_not_contrasted() -> None:
    assert make(pair="low_low").views == ("low", "low")
    assert make().views == ("high", "low")
    assert make(pair="training_training").views == ("training", "training")
    with pytest.raises(ValueError, match="one view, so contrast_weight should be 0, got 1"):
        make(pair="training")
    alone = make(pair="training", contrast_weight=0, threshold=0.5, t_alpha=1.0, h=1.0)
    assert alone.views == ("training",)
    head, label_B = make_head("cosface", 16, 10), torch.arange(8)
    feature_BD = functional.normalize(torch.randn(8, 16)) * torch.tensor([1.0] * 4 + [20.0] * 4)[:, None]
    feature_BD.requires_grad_()
    output = alone(as_is, head, [feature_BD], label_B, 0.0)
    output.loss.backward()
    assert "contrast" not in output.terms
    learned_B = feature_BD.grad.norm(dim=1) > 1e-12
    assert learned_B.tolist() == [False] * 4 + [True] * 4


def test_a_queue_keeps_the_newest_first_and_moves_with_its_centres() -> None:
    head = make_head("cosface", 4, 10)
    queue = FeatureQueue(5, 4, with_centres=True)
    label = torch.tensor([1, 2, 3])
    for first in (0.0, 10.0):
        feature = torch.full((3, 4), 1.0) + first + torch.arange(3.0)[:, None]
        queue.put(feature, label, class_centres(head, label))
    assert queue.labels.tolist() == [1, 2, 3, 1, 2]
    assert queue.feature_KD[:, 0].tolist() == [11, 12, 13, 1, 2]
    assert torch.equal(queue.features(head), queue.feature_KD)
    head.weight.data[2] += 0.5
    moved = queue.features(head) - queue.feature_KD
    assert (moved[[0, 2, 3]] == 0).all()
    length = queue.feature_KD[1].norm() / (head.weight[2] - 0.5).norm()
    assert torch.allclose(moved[1], (0.5 * length).expand(4), rtol=1e-5)
    assert len(FeatureQueue(5, 4, with_centres=False).labels) == 0
