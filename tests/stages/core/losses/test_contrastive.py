"""QGFace's contrastive loss against the authors' code, and its weights against their definition."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from stages.core.losses import contrastive


@pytest.fixture(scope="module")
def fixture(golden: Path) -> dict[str, Tensor]:
    tree = json.loads((golden / "heads.json").read_text())
    given = tree["qgface_contrast_D2N_sgn_half_mask_same"]
    query_BD = functional.normalize(torch.tensor(tree["inputs"]["X"], dtype=torch.float64), dim=1)
    row, column = torch.arange(12.0, dtype=torch.float64)[:, None], torch.arange(query_BD.shape[1]).double()
    key_BD = functional.normalize(torch.sin(0.9 * row[:4] + 1.7 * column + 0.5), dim=1)
    queue_KD = functional.normalize(torch.cos(0.8 * row + 1.3 * column + 0.1), dim=1)
    queue_KD[:8] = torch.cat([key_BD, query_BD])
    label_B, label_K = torch.tensor(tree["inputs"]["labels"]), torch.tensor(given["queue_labels"])
    return {
        "query": query_BD, "key": key_BD, "queue": queue_KD, "same": label_B[:, None] == label_K,
        "scaler_q": torch.tensor(given["ms_q"]).double(), "scaler_k": torch.tensor(given["ms_k"]).double(),
        "weights": torch.tensor(given["weights"]).double(), "loss": torch.tensor(given["loss"]).double(),
    }  # fmt: skip


def test_loss_and_weights_are_the_authors(fixture: dict[str, Tensor]) -> None:
    quality_B = contrastive.pair_quality(fixture["scaler_q"], fixture["scaler_k"], "low")
    weight_R = contrastive.pair_weight(quality_B, 0.5, "sgn", "half").repeat(2)
    assert torch.equal(weight_R, fixture["weights"])
    cosine_RK = contrastive.pair_cosines(
        fixture["query"], fixture["key"], fixture["queue"], fixture["same"], both_ways=True, detach_positive=False
    )
    loss = contrastive.contrast_loss(cosine_RK, weight_R, 64.0, 0.0, rescale=True)
    assert torch.allclose(loss, fixture["loss"], rtol=1e-7)  # they rescale in float32


def test_a_pair_of_the_same_person_is_masked_in_the_queue_and_stands_with_cosine_0() -> None:
    one = functional.normalize(torch.ones(1, 4), dim=1)
    same = torch.tensor([[True, False]])
    cosine_RK = contrastive.pair_cosines(one, one, torch.cat([one, one]), same, both_ways=True, detach_positive=False)
    assert cosine_RK.tolist() == [[1, 0, 1], [1, 0, 1]]


def test_detached_positives_pull_one_side_only() -> None:
    query = functional.normalize(torch.randn(3, 4), dim=1).requires_grad_()
    key = functional.normalize(torch.randn(3, 4), dim=1).requires_grad_()
    nobody = torch.zeros(3, 2, dtype=torch.bool)
    rows = contrastive.pair_cosines(query, key, torch.randn(2, 4), nobody, both_ways=False, detach_positive=True)
    rows[:, 0].sum().backward()
    assert key.grad is None
    assert query.grad is not None
    assert torch.allclose(query.grad, key.detach())


@pytest.mark.parametrize("shape", ["sgn", "cos", "linear"])
@pytest.mark.parametrize("span", ["half", "whole"])
def test_weights_rise_to_the_threshold_and_fall_or_vanish_above(shape: contrastive.Shape, span: contrastive.Span) -> None:
    quality = torch.linspace(0, 1, 1001, dtype=torch.float64)
    weight = contrastive.pair_weight(quality, 0.3, shape, span)
    below, above = weight[quality < 0.3], weight[quality >= 0.3]
    assert (below.diff() >= 0).all()
    assert (above.diff() <= 0).all()
    assert weight.min() >= -1e-12
    # the published epsilon keeps it from 1 below the threshold, and lets it pass 1 above
    assert weight.max() <= 1.003
    assert below[-1] > 0.98
    if span == "half":
        assert (above == 0).all()
    else:
        assert above[0] > 0.98
        assert (above[-1] < 0.01) == (shape != "sgn")


def test_no_threshold_means_no_weights_and_no_split() -> None:
    quality = torch.linspace(0, 1, 5)
    assert torch.equal(contrastive.pair_weight(quality, 0, "cos", "whole"), torch.ones(5))
    assert torch.equal(contrastive.split_factor(quality, 0, 64), torch.ones(5))


def test_the_quality_of_a_pair_is_that_of_its_worse_or_better_view_or_between() -> None:
    first, second = torch.tensor([-1.0, 0.5]), torch.tensor([0.0, -0.5])
    assert contrastive.pair_quality(first, second, "low").tolist() == [0, 0.25]
    assert contrastive.pair_quality(first, second, "high").tolist() == [0.5, 0.75]
    assert contrastive.pair_quality(first, second, "mean").tolist() == [0.25, 0.5]


@pytest.mark.parametrize("columns", [2, 129, 1000])
def test_rescaled_equal_logits_cost_the_same_for_any_queue(columns: int) -> None:
    loss = contrastive.contrast_loss(torch.rand(4, columns), torch.zeros(4), 64.0, 0.0, rescale=True)
    assert loss.item() == pytest.approx(math.log(129), rel=1e-6)


def test_a_margin_is_taken_off_the_positive() -> None:
    cosine = torch.tensor([[0.9, 0.2]])
    loss = contrastive.contrast_loss(cosine, torch.ones(1), 10.0, 0.4, rescale=False)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(10 * (0.2 - 0.5))), rel=1e-5)


def test_the_distance_to_the_hardest_negative_counts_no_negative_cosine() -> None:
    cosine = torch.tensor([[0.9, 0.5, -0.3], [0.4, -0.6, -0.2]])
    assert contrastive.distance_to_hardest(cosine).item() == pytest.approx((0.4 + 0.4) / 2)
