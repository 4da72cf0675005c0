"""AdamW (Loshchilov and Hutter, ICLR 2019) that skips rows without a gradient: Partial FC's centres.

torch has no AdamW for row-sparse gradients; its SparseAdam has no weight decay. Here rows in the gradient move as
torch's AdamW moves them; others keep weight and both means. The number of steps is the optimiser's and not the row's,
as in insightface's PartialFCAdamW (partial_fc.py at 92a0bb6b): a centre that is drawn for the first time late in
the training moves further than in a first step. A dense gradient touches all rows.

Shapes: C rows, K of them in the gradient.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class RowAdamW(Optimizer):
    """Like ``torch.optim.AdamW``, without amsgrad."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step."""
        for group in self.param_groups:
            given = [weight for weight in group["params"] if weight.grad is not None]
            for weight in given:
                self._count(weight)
                if weight.grad.is_sparse:
                    self._move_rows(weight, group)
            self._move([weight for weight in given if not weight.grad.is_sparse], group)

    def _count(self, weight: Tensor) -> None:
        """Count a step of a weight, on the host: a GPU would make it wait."""
        state = self.state[weight]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(weight), torch.zeros_like(weight)
        state["step"] += 1

    def _corrections(self, weight: Tensor, group: dict[str, Any]) -> tuple[float, float]:
        """Return what the step is multiplied by, and what the root is divided by: both means start from zero."""
        steps = float(self.state[weight]["step"])
        of_mean, of_square = (1 - beta**steps for beta in group["betas"])
        return -group["lr"] / of_mean, of_square**0.5

    def _move(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        """Move all weights with dense gradients by a few calls, however many they are."""
        if not weights:
            return
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        factors, roots_of = zip(*(self._corrections(weight, group) for weight in weights), strict=True)
        means = [self.state[weight]["exp_avg"] for weight in weights]
        squares = [self.state[weight]["exp_avg_sq"] for weight in weights]
        first, second = group["betas"]
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_lerp_(means, gradients, 1 - first)
        torch._foreach_mul_(squares, second)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - second)
        roots = list(torch._foreach_sqrt(squares))
        torch._foreach_div_(roots, list(roots_of))
        torch._foreach_add_(roots, group["eps"])
        torch._foreach_addcdiv_(weights, means, roots, list(factors))

    def _move_rows(self, weight: Tensor, group: dict[str, Any]) -> None:
        assert weight.grad is not None
        gradient = weight.grad.coalesce()
        row_K, value_KD = gradient.indices()[0], gradient.values()
        state, (first, second) = self.state[weight], group["betas"]
        factor, root_of = self._corrections(weight, group)
        mean_KD = state["exp_avg"][row_K].lerp_(value_KD, 1 - first)
        square_KD = state["exp_avg_sq"][row_K].mul_(second).addcmul_(value_KD, value_KD, value=1 - second)
        state["exp_avg"][row_K], state["exp_avg_sq"][row_K] = mean_KD, square_KD
        root_KD = square_KD.sqrt_().div_(root_of).add_(group["eps"])
        moved_KD = weight[row_K].mul_(1 - group["lr"] * group["weight_decay"])
        weight[row_K] = moved_KD.addcdiv_(mean_KD, root_KD, value=factor)
