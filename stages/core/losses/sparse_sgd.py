"""SGD with momentum and weight decay that skips rows without a gradient: Partial FC's centres.

torch's SGD takes a row-sparse gradient only without weight decay. Here rows in the gradient move exactly as torch's
SGD moves them; others keep weight and momentum, as in insightface's first Partial FC (partial_fc.py at 92a0bb6b), which
swaps them out. The gradient of its second (partial_fc_v2.py at 7fadd420) is dense: there the others decay, and go on
moving by their momentum. A dense gradient touches all rows here too.

Shapes: C rows, K of them in the gradient.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class RowSGD(Optimizer):
    """Like ``torch.optim.SGD``, without dampening."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        *,
        nesterov: bool = False,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step."""
        for group in self.param_groups:
            given = [weight for weight in group["params"] if weight.grad is not None]
            for weight in given:
                if weight.grad.is_sparse:
                    self._move_rows(weight, group)
            self._move([weight for weight in given if not weight.grad.is_sparse], group)

    def _velocity(self, weight: Tensor) -> Tensor:
        """Return the momentum; from zero, the first step is the gradient's own, as in torch."""
        if "momentum_buffer" not in self.state[weight]:
            self.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
        velocity: Tensor = self.state[weight]["momentum_buffer"]
        return velocity

    def _move(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        """Move all weights with dense gradients by a few calls, however many they are."""
        if not weights:
            return
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        changes = list(torch._foreach_add(gradients, weights, alpha=group["weight_decay"]))
        if group["momentum"]:
            velocities = [self._velocity(weight) for weight in weights]
            torch._foreach_mul_(velocities, group["momentum"])
            torch._foreach_add_(velocities, changes)
            if group["nesterov"]:
                torch._foreach_add_(changes, velocities, alpha=group["momentum"])
            else:
                changes = velocities
        torch._foreach_sub_(weights, changes, alpha=group["lr"])

    def _move_rows(self, weight: Tensor, group: dict[str, Any]) -> None:
        assert weight.grad is not None
        gradient = weight.grad.coalesce()
        row_K = gradient.indices()[0]
        change = gradient.values().add(weight[row_K], alpha=group["weight_decay"])
        if group["momentum"]:
            velocity = self._velocity(weight)
            moved = change.add(velocity[row_K], alpha=group["momentum"])
            velocity[row_K] = moved
            change = change.add_(moved, alpha=group["momentum"]) if group["nesterov"] else moved
        weight.index_add_(0, row_K, change, alpha=-group["lr"])
