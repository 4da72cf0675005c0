"""Fits one layer on frozen features to a target per image, to the optimum of SmoothL1: a convex problem.

Solved by L-BFGS, with no learning rate to choose.

Shapes: N images, D feature dimensions.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from stages.core.metrics.quality import Learned


def fit(feature_ND: Tensor, target_N: Tensor, beta: float, iterations: int) -> Learned:
    """Return weight (1, D) and bias (1,) of the optimal layer, and fit statistics.

    Args:
        feature_ND: before normalising.
        target_N: finite.
        beta: where SmoothL1 turns from a square to a line.
        iterations: of L-BFGS, at most.
    """
    feature_ND, target_N = feature_ND.double(), target_N.double()
    # the same functions are reached from standardised features, in far fewer iterations
    mean_D, std_D = feature_ND.mean(dim=0), feature_ND.std(dim=0, correction=0).clamp_min(1e-12)
    standard_ND = (feature_ND - mean_D) / std_D
    weight_D = torch.zeros_like(mean_D).requires_grad_()
    bias = target_N.median().clone().requires_grad_()
    optimiser = torch.optim.LBFGS(
        [weight_D, bias], max_iter=iterations, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = functional.smooth_l1_loss(standard_ND @ weight_D + bias, target_N, beta=beta)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        predicted_N = standard_ND @ weight_D + bias
        weights = {
            "weight": (weight_D / std_D).float()[None],
            "bias": (bias - (mean_D * weight_D / std_D).sum()).float()[None],
        }
        return Learned(weights, describe(predicted_N, target_N, beta))


def describe(predicted_N: Tensor, target_N: Tensor, beta: float) -> dict[str, float]:
    """Return the loss, and the share of the target's variance that the layer explains."""
    rest = (predicted_N - target_N).square().sum()
    spread = (target_N - target_N.mean()).square().sum().clamp_min(1e-300)
    return {
        "loss": float(functional.smooth_l1_loss(predicted_N, target_N, beta=beta)),
        "explained_variance": float(1 - rest / spread),
        "target_mean": float(target_N.mean()),
        "target_std": float(target_N.std(correction=0)),
    }
