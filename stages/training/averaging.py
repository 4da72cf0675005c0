"""Exponential moving average of a training run's weights: of backbone, head and quality layer (Polyak averaging).

Weights and the running statistics of batch norms are averaged, as timm's ModelEmaV3 does; counters, and the statistics
of heads, which are running means already, are the last ones. The average depends on the steps alone, so that a resumed
training run has the same one.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from stages.config.training import Schedule
from stages.training.networks import Networks


class Average:
    """The averaged networks, in evaluation mode; no optimiser knows them."""

    def __init__(self, networks: Networks, schedule: Schedule) -> None:
        self.schedule = schedule
        self.trained = _averaged(networks)
        self.modules: nn.ModuleDict = copy.deepcopy(self.trained).requires_grad_(False).eval()

    @property
    def backbone(self) -> nn.Module:
        """Return the averaged backbone."""
        return self.modules["backbone"]

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Move the average towards the weights after ``step`` steps, counted from 1."""
        share = 1 - self.schedule.ema_decay_at(step)
        # one call for all: a GPU's host would need as long for each
        torch._foreach_lerp_(list(_means(self.modules)), list(_means(self.trained)), share)
        for mine, latest in zip(_others(self.modules), _others(self.trained), strict=True):
            mine.copy_(latest)

    def state(self) -> tuple[dict[str, Any], Tensor]:
        """Return what all processes hold alike, and the averaged rows of this process's classes."""
        shared = {name: dict(module.state_dict()) for name, module in self.modules.items()}
        return shared, shared["head"].pop("weight")

    def load_state(self, shared: dict[str, Any], weight: Tensor) -> None:
        """Restore a saved state."""
        load(self.modules, shared, weight)


def load(modules: nn.ModuleDict, shared: dict[str, Any], weight: Tensor) -> None:
    """Fill backbone, head and quality layer with a saved average."""
    for name, module in modules.items():
        module.load_state_dict({**shared[name], "weight": weight} if name == "head" else shared[name])


def load_into(networks: Networks, shared: dict[str, Any], weight: Tensor) -> None:
    """Fill the networks with a saved average."""
    load(_averaged(networks), shared, weight)


def _averaged(networks: Networks) -> nn.ModuleDict:
    """Return the modules that are averaged: queues and slow copies of an objective are not."""
    layer = networks.objective.quality_layer()
    parts: dict[str, nn.Module] = {"backbone": networks.backbone, "head": networks.head}
    return nn.ModuleDict(parts if layer is None else parts | {"quality": layer})


def _means(modules: nn.ModuleDict) -> Iterator[Tensor]:
    yield from modules.parameters()
    yield from (buffer for name, buffer in modules.named_buffers() if _is_averaged(name, buffer))


def _others(modules: nn.ModuleDict) -> Iterator[Tensor]:
    yield from (buffer for name, buffer in modules.named_buffers() if not _is_averaged(name, buffer))


def _is_averaged(name: str, buffer: Tensor) -> bool:
    return buffer.is_floating_point() and not name.startswith("head.")
