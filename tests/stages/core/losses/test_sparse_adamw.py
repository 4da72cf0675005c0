"""Row-wise AdamW against torch's."""

from __future__ import annotations

import pytest
import torch

from stages.core.losses.sparse_adamw import RowAdamW
from tests.stages.meta_gpu import counted


@pytest.mark.parametrize("sparse", [False, True])
def test_rows_that_are_always_there_move_as_in_torchs_adamw(sparse: bool):
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(torch.arange(12.0, dtype=torch.float64).reshape(4, 3)) for _ in range(2))
    pairs = RowAdamW([ours], 0.1, (0.8, 0.95), 1e-6, 0.05), torch.optim.AdamW([theirs], 0.1, (0.8, 0.95), 1e-6, 0.05)
    for _ in range(5):
        gradient = torch.randn(4, 3, dtype=torch.float64)
        ours.grad = gradient.to_sparse(1) if sparse else gradient.clone()
        theirs.grad = gradient.clone()
        for optimiser in pairs:
            optimiser.step()
        torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-13)


def test_weights_that_miss_steps_are_corrected_by_their_own_count():
    def made() -> list[torch.nn.Parameter]:
        return [torch.nn.Parameter(torch.full((2, 2), 3.0, dtype=torch.float64)) for _ in range(2)]

    ours, theirs = made(), made()
    pairs = RowAdamW(ours, 0.1), torch.optim.AdamW(theirs, 0.1)
    for step in range(4):
        for weights in (ours, theirs):
            weights[0].grad = torch.full((2, 2), 1.0 + step, dtype=torch.float64)
            weights[1].grad = torch.full((2, 2), -2.0, dtype=torch.float64) if step % 2 else None
        for optimiser in pairs:
            optimiser.step()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-13, atol=0)


def test_a_row_that_takes_no_part_keeps_weight_and_means_and_a_later_one_has_the_count_of_the_optimiser():
    """As insightface's PartialFCAdamW: the means of the drawn rows are swapped in, the step is that of the training."""
    weight = torch.nn.Parameter(torch.ones(3, 2, dtype=torch.float64))
    optimiser = RowAdamW([weight], lr=0.5, weight_decay=0.1)
    row = torch.nn.Parameter(torch.ones(1, 2, dtype=torch.float64))
    alone = torch.optim.AdamW([row], lr=0.5, weight_decay=0.1)
    for step, rows in enumerate(([0, 2], [1], [2], [0, 1]), start=1):
        before = weight.detach().clone(), {key: value.clone() for key, value in optimiser.state[weight].items()}
        gradient = torch.zeros(3, 2, dtype=torch.float64)
        gradient[rows] = 1.5
        weight.grad = gradient.to_sparse(1)
        optimiser.step()
        still = [row for row in range(3) if row not in rows]
        assert torch.equal(weight[still], before[0][still])
        for mean in ("exp_avg", "exp_avg_sq"):
            if step > 1:
                assert torch.equal(optimiser.state[weight][mean][still], before[1][mean][still])
        if 1 in rows:
            row.grad = gradient[1:2]
            alone.state[row] = {"step": torch.tensor(float(step - 1)), **_means(alone, row)}
            alone.step()
            torch.testing.assert_close(weight[1:2], row, rtol=1e-13, atol=0)


def _means(optimiser: torch.optim.Optimizer, row: torch.Tensor) -> dict[str, torch.Tensor]:
    kept = optimiser.state[row]
    return {mean: kept.get(mean, torch.zeros_like(row)) for mean in ("exp_avg", "exp_avg_sq")}


def test_a_step_has_as_few_operators_for_many_weights_as_for_two_and_never_waits():
    counts = []
    for number in (2, 100):
        weights = [torch.nn.Parameter(torch.empty(3, 2, device="meta")) for _ in range(number)]
        optimiser = RowAdamW(weights, lr=0.1, weight_decay=0.1)
        for _ in range(2):
            for weight in weights:
                weight.grad = torch.empty_like(weight)
            with counted() as count:
                optimiser.step()
        counts.append(count.operators)
        assert not count.waits
    assert counts[0] == counts[1]
