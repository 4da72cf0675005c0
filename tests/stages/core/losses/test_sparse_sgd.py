"""Row-wise SGD against torch's."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from stages.core.losses import margin_head
from stages.core.losses.class_parallel import Shard
from stages.core.losses.sparse_sgd import RowSGD
from stages.heads import cosface
from tests.stages.meta_gpu import counted


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
@pytest.mark.parametrize("sparse", [False, True])
def test_rows_that_are_always_there_move_as_in_torchs_sgd(sparse: bool, momentum: float, nesterov: bool):
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(torch.arange(12.0).reshape(4, 3)) for _ in range(2))
    options: dict[str, Any] = {"lr": 0.1, "momentum": momentum, "weight_decay": 0.01, "nesterov": nesterov}
    optimisers = RowSGD([ours], **options), torch.optim.SGD([theirs], **options)
    for _ in range(4):
        gradient = torch.randn(4, 3)
        ours.grad = gradient.to_sparse(1) if sparse else gradient.clone()
        theirs.grad = gradient.clone()
        for optimiser in optimisers:
            optimiser.step()
        torch.testing.assert_close(ours, theirs)


def test_a_row_that_takes_no_part_keeps_weight_and_momentum():
    weight = torch.nn.Parameter(torch.ones(3, 2))
    optimiser = RowSGD([weight], lr=0.5, momentum=0.9, weight_decay=0.1)
    for rows in ([0, 2], [1], [2]):
        before = weight.detach().clone()
        gradient = torch.zeros(3, 2)
        gradient[rows] = 1
        weight.grad = gradient.to_sparse(1)
        optimiser.step()
        still = [row for row in range(3) if row not in rows]
        assert torch.equal(weight[still], before[still])
        assert (weight[rows] < before[rows]).all()


def test_its_state_can_be_saved_and_loaded():
    def made() -> tuple[torch.nn.Parameter, RowSGD]:
        weight = torch.nn.Parameter(torch.ones(3, 2))
        return weight, RowSGD([weight], lr=0.5, momentum=0.9)

    weight, optimiser = made()
    weight.grad = torch.ones(3, 2)
    optimiser.step()
    other, again = made()
    other.data.copy_(weight.data)
    again.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    for parameter, each in ((weight, optimiser), (other, again)):
        parameter.grad = torch.ones(3, 2)
        each.step()
    assert torch.equal(weight, other)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_step_has_as_few_operators_for_many_weights_as_for_two(momentum: float):
    counts = []
    for number in (2, 100):
        weights = [torch.nn.Parameter(torch.empty(3, 2, device="meta")) for _ in range(number)]
        optimiser = RowSGD(weights, lr=0.1, momentum=momentum, weight_decay=0.1)
        for _ in range(2):
            for weight in weights:
                weight.grad = torch.empty_like(weight)
            with counted() as count:
                optimiser.step()
        counts.append(count.operators)
    assert counts[0] == counts[1]


def of_centres(uses: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the gradient of sampled centres after so many uses in a step, and the same by torch's `embedding`."""
    head = cosface.Head(cosface.Config(name="cosface", margin=0.3), 4, 40, Shard(sample_rate=0.2)).double()
    torch.manual_seed(1)
    feature_BD, label_B = torch.randn(5, 4, dtype=torch.float64), torch.randint(0, 40, (5,))
    found = []
    for rows in (margin_head._Rows.apply, lambda weight, row_K: torch.nn.functional.embedding(row_K, weight, sparse=True)):
        head.weight.grad = None
        torch.manual_seed(2)
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr(margin_head._Rows, "apply", rows)
            sum(head(feature_BD * (1 + use), label_B).loss for use in range(uses)).backward()  # type: ignore[union-attr]
        assert head.weight.grad is not None
        found.append(head.weight.grad)
    return found[0], found[1]


def test_the_gradient_of_sampled_centres_needs_no_sorting_and_has_the_bits_of_torchs():
    ours, theirs = of_centres(uses=1)
    assert ours.is_coalesced()
    assert torch.equal(ours.indices(), theirs.coalesce().indices())
    assert torch.equal(ours.values(), theirs.coalesce().values())


def test_the_gradient_of_centres_that_were_used_twice_is_summed():
    ours, theirs = of_centres(uses=2)
    assert not ours.is_coalesced()
    torch.testing.assert_close(ours.to_dense(), theirs.to_dense())
    assert ours.coalesce()._nnz() == len(ours.coalesce().indices()[0].unique())
