"""BroadFace against the authors' own code (tests/golden/make_broadface.py), and over every head."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from stages.core.losses.class_parallel import Shard
from stages.heads import arcface
from stages.objectives import broadface
from tests.stages.heads.support import VARIANTS, build

GOLDEN = Path(__file__).parents[2] / "golden/broadface.json"


def objective(feature_dim: int, **fields: Any) -> broadface.BroadFace:
    return broadface.build(broadface.Config(name="broadface", **fields), feature_dim, 0)


def advance(made: broadface.BroadFace, head: Any, feature_BD: torch.Tensor, label_B: torch.Tensor) -> Any:
    """One step; a backbone that gives these features."""
    return made(lambda image: image, head, [feature_BD], label_B, 0.0)


# with several centres of a class, as with proxies, there is no one centre that could learn
ONE_CENTRE = [case for case in VARIANTS if case[1].get("proxy") is None and build(case[0], 8, 5, **case[1]).centres == 1]


@pytest.mark.parametrize("case", ["compensated", "plain"])
def test_steps_with_a_queue_equal_the_authors_code(case: str):
    tree = json.loads(GOLDEN.read_text())
    config = arcface.Config(name="arcface", margin=tree["margin"], scale=tree["scale"], beyond_pi="shift")
    weight_CD = torch.tensor(tree["weight"], dtype=torch.float64)
    head = arcface.Head(config, weight_CD.shape[1], len(weight_CD)).double()
    head.weight.data.copy_(weight_CD)
    made = objective(weight_CD.shape[1], queue_size=tree["queue"], compensate=case == "compensated").double()
    for number, wanted in enumerate(tree[case]):
        feature_BD = torch.tensor(tree["features"][number], dtype=torch.float64, requires_grad=True)
        head.zero_grad()
        output = advance(made, head, feature_BD, torch.tensor(tree["labels"][number]))
        output.loss.backward()
        assert float(output.loss.detach()) == pytest.approx(wanted["loss"], rel=1e-10)
        for mine, key in ((feature_BD.grad, "grad_features"), (head.weight.grad, "grad_weight")):
            golden = torch.tensor(wanted[key], dtype=torch.float64)
            assert (mine - golden).norm() < 1e-9 * golden.norm()
        head.weight.data.sub_(head.weight.grad, alpha=tree["rate"])


@pytest.mark.parametrize(("name", "overrides"), ONE_CENTRE)
def test_the_centres_alone_learn_from_the_queue(name: str, overrides: dict[str, Any]):
    head = build(name, 8, 5, **overrides)
    twin = build(name, 8, 5, **overrides)
    made = objective(8, queue_size=20)
    generator = torch.Generator().manual_seed(3)
    for _ in range(3):
        feature_BD = 20 * torch.randn(6, 8, generator=generator)
        label_B = torch.randint(0, 5, (6,), generator=generator)
        mine_BD, other_BD = feature_BD.clone().requires_grad_(), feature_BD.clone().requires_grad_()
        head.zero_grad()
        output = advance(made, head, mine_BD, label_B)
        output.loss.backward()
        plain = twin(other_BD, label_B)
        plain.loss.backward()
        # what the backbone sees and the head's statistics are those of the head alone
        torch.testing.assert_close(mine_BD.grad, other_BD.grad)
        assert torch.equal(output.target_cosine_B, plain.target_cosine_B)
        for key, buffer in head.named_buffers():
            assert torch.equal(buffer, twin.get_buffer(key)), key
        assert head.weight.grad.isfinite().all()
    assert int(made.queue.filled) == 18
    assert int(output.terms["queue"]) == 18


def test_a_first_step_is_twice_the_heads_loss():
    head = build("cosface", 8, 5)
    feature_BD, label_B = torch.randn(4, 8), torch.arange(4)
    wanted = build("cosface", 8, 5)(feature_BD, label_B).loss
    torch.testing.assert_close(advance(objective(8), head, feature_BD, label_B).loss, 2 * wanted)


def test_the_queue_is_part_of_a_checkpoint():
    made, again = objective(8, queue_size=7), objective(8, queue_size=7)
    head = build("arcface", 8, 5)
    for _ in range(2):
        advance(made, head, torch.randn(4, 8), torch.arange(4))
    again.load_state_dict(made.state_dict())
    feature_BD = torch.randn(4, 8)
    losses = [advance(each, build("arcface", 8, 5), feature_BD, torch.arange(4)).loss for each in (made, again)]
    assert torch.equal(*losses)


def test_a_queue_that_processes_cannot_share_is_refused():
    made = objective(8, queue_size=3)
    made.queue.filled.fill_(3)
    head = build("arcface", 8, 5)
    head.shard = Shard(0, 2)
    made.queue.with_centres = False
    with pytest.raises(ValueError, match="2 processes cannot divide a queue of 3"):
        made.share(head)
