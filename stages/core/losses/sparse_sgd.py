"""SGD with momentum and weight decay that skips rows without a gradient: Partial FC's centres.

torch's SGD takes a row-sparse gradient only without weight decay. Here rows in the gradient move exactly as torch's
SGD moves them; others keep weight and momentum (insightface partial_fc_v2.py at 7fadd420 swaps them out as well).
A dense gradient touches all rows.

Shapes: C rows, K of them in the gradient.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class RowSGD(Optimizer):
    """Like ``torch.optim.SGD``, without dampening and Nesterov momentum."""

    def __init__(
        self, params: Iterable[Any], lr: float, momentum: float = 0.0, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, group)

    def _move(self, weight: Tensor, group: dict[str, Any]) -> None:
        momentum: float = group["momentum"]
        velocity: Tensor | None = self.state[weight].get("momentum_buffer")
        if momentum and velocity is None:
            # from zero, the first step is the gradient's own, as in torch
            velocity = self.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
        assert weight.grad is not None
        if not weight.grad.is_sparse:
            change = weight.grad.add(weight, alpha=group["weight_decay"])
            if velocity is not None:
                change = velocity.mul_(momentum).add_(change)
            weight.sub_(change, alpha=group["lr"])
            return
        gradient = weight.grad.coalesce()
        row_K = gradient.indices()[0]
        change = gradient.values().add(weight[row_K], alpha=group["weight_decay"])
        if velocity is not None:
            change.add_(velocity[row_K], alpha=momentum)
            velocity[row_K] = change
        weight.index_add_(0, row_K, change, alpha=-group["lr"])
