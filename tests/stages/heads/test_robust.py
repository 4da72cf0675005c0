"""A step of a head is right, or its loss says that it is not; and nothing that is no number stays behind."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stages.core.losses.head import follow
from tests.stages.heads.support import VARIANTS, build, quality_for

DIM, CLASSES = 8, 5
# what a row of features may be; those that no step can be right with
FINE = ("drawn", "zero", "tiny", "large", "own centre", "against own centre", "another's centre", "same as first")
WRONG = ("inf", "nan", "beyond half", "norm overflows")


def row(kind: str, first_D: torch.Tensor, weight_CD: torch.Tensor, label: int, seed: int) -> torch.Tensor:
    drawn_D = 20 * torch.randn(DIM, generator=torch.Generator().manual_seed(seed))
    made = {
        "drawn": drawn_D,
        "zero": torch.zeros(DIM),
        "tiny": drawn_D * 1e-30,
        "large": drawn_D * 1e15,
        "own centre": 16 * weight_CD[label],
        "against own centre": -16 * weight_CD[label],
        "another's centre": 16 * weight_CD[(label + 1) % CLASSES],
        "same as first": first_D,
        "inf": drawn_D.index_fill(0, torch.tensor([3]), torch.inf),
        "nan": drawn_D.index_fill(0, torch.tensor([3]), torch.nan),
        "beyond half": (drawn_D * 1e6).half().float(),
        "norm overflows": drawn_D * 1e30,
    }
    return made[kind]


@settings(max_examples=60, deadline=None)
@example(("subcenter_arcface", {}), "store", ["drawn"], ["drawn", "own centre"], 0)
@given(
    variant=st.sampled_from(VARIANTS),
    mode=st.sampled_from(["store", "recompute"]),
    kinds=st.lists(st.sampled_from(FINE + WRONG), min_size=1, max_size=5),
    later=st.lists(st.sampled_from(FINE), min_size=1, max_size=5),
    seed=st.integers(0, 1000),
)
def test_any_batch_is_right_or_refused_and_leaves_numbers_behind(
    variant: tuple[str, dict[str, Any]], mode: str, kinds: list[str], later: list[str], seed: int
):
    head = build(variant[0], DIM, CLASSES, **variant[1])
    head.mode = mode
    for batch in (kinds, later):
        label_B = torch.arange(len(batch)) % CLASSES
        rows: list[torch.Tensor] = []
        for index, kind in enumerate(batch):
            first_D = rows[0] if rows else torch.ones(DIM)
            # of several centres of a class the first
            rows.append(row(kind, first_D, head.weight.detach()[:, :DIM], int(label_B[index]), seed + index))
        feature_BD = torch.stack(rows).requires_grad_()
        head.zero_grad()
        loss = head(feature_BD, label_B, quality_for(head, len(batch))).loss
        loss.backward()
        right = feature_BD.detach().norm(dim=1).isfinite().all()
        assert loss.isfinite() == right
        if right:
            assert feature_BD.grad.isfinite().all()
            assert head.weight.grad.isfinite().all()
        else:
            # mixed precision skips a step by its gradients: they must tell, too
            assert not head.weight.grad.isfinite().all()
        assert all(buffer.isfinite().all() for buffer in head.buffers())


@settings(max_examples=50, deadline=None)
@given(
    start=st.floats(-1e3, 1e3, width=32),
    values=st.lists(st.floats(width=32, allow_nan=True, allow_infinity=True), max_size=6),
    alpha=st.floats(0.015625, 1, width=32),
)
def test_a_running_statistic_stays_a_number_whatever_it_is_shown(start: float, values: list[float], alpha: float):
    running = torch.tensor(start)
    for value in values:
        before = running.clone()
        follow(running, torch.tensor(value), alpha)
        assert running.isfinite()
        if not torch.tensor(value).isfinite():
            assert torch.equal(running, before)
