"""One training step: views to loss to weights, in the configured precision, chunks and processes.

Shapes: V views, B batch of this process, D feature dimensions, H = W = 112.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from stages.config.training import Config
from stages.core.errors import InputError
from stages.core.images.pixels import from_rows, to_network
from stages.core.losses.class_parallel import Shard
from stages.core.losses.head import HeadOutput
from stages.core.losses.sampler import Order
from stages.core.losses.sparse_adamw import RowAdamW
from stages.core.losses.sparse_sgd import RowSGD
from stages.io import brisque_model
from stages.training import networks as networks_of
from stages.training.averaging import Average
from stages.training.distributed import Processes
from stages.training.initial import Start, freeze
from stages.training.networks import Networks

SEED_OF_STEP, SEED_OF_RANK = 1_000_003, 7_368_787
OPTIMISER = "optimiser."
"""Prefix of the rows of the optimiser's state in a checkpoint."""


def optimiser(networks: nn.Module, config: Config, device: torch.device) -> torch.optim.Optimizer:
    """Return SGD with momentum or AdamW; on a GPU one kernel for many weights."""
    schedule = config.schedule
    rate, groups = schedule.learning_rate, networks_of.parameter_groups(networks, schedule)
    if config.initial is not None and config.initial.backbone_learning_rate is not None:
        groups = networks_of.with_backbone_rate(groups, networks, config.initial.backbone_learning_rate / rate)
    by_rows = config.class_sample_rate < 1  # the centres that do not take part in a step keep all they have
    fused = True if device.type == "cuda" else None  # on a CPU its bits are others
    if schedule.optimiser == "adamw":
        if by_rows:
            return RowAdamW(groups, rate, schedule.betas, schedule.epsilon)
        return torch.optim.AdamW(groups, rate, schedule.betas, schedule.epsilon, fused=fused)
    momentum, nesterov = schedule.momentum, schedule.nesterov
    if by_rows:
        return RowSGD(groups, rate, momentum, nesterov=nesterov)
    return torch.optim.SGD(groups, rate, momentum, nesterov=nesterov, fused=fused)


class Stepper:
    """Networks, their average, optimiser and loss scale; ``advance`` makes one step."""

    def __init__(
        self, config: Config, num_classes: int, order: Order, processes: Processes, start: Start | None = None
    ) -> None:
        self.config, self.order, self.processes = config, order, processes
        shared = processes.size > 1 or config.class_sample_rate < 1
        shard = Shard(processes.rank, processes.size, sample_rate=config.class_sample_rate)
        self.span = shard.rows(num_classes)
        self.num_classes = num_classes
        # once, because on a GPU each check of a step would make the host wait
        if not processes.alike(order.local_size):
            raise InputError(f"every process needs a batch of one size, this one has {order.local_size}")
        self.networks: Networks = networks_of.build(config, num_classes, shard if shared else None)
        parts = config.initial.frozen if config.initial else ()
        if start is not None:
            start.apply(self.networks, self.span)
            freeze(self.networks, parts)  # before they are placed: processes exchange the gradients of what is trained
        num_steps = config.schedule.epochs * order.steps_per_epoch
        self.backbone = networks_of.place(self.networks, config.compute, processes, num_steps)
        self.frozen = freeze(self.networks, parts)
        self.networks.objective.attach(self.networks.backbone)
        asks = self.networks.head.wants_quality
        self.brisque = brisque_model.read(brisque_model.installed()) if asks else None
        self.optimiser = optimiser(self.networks.modules(), config, processes.device)
        self.average = None if config.schedule.ema_decay is None else Average(self.networks, config.schedule)
        self.networks.objective.autocast = self.autocast
        self.dtype = networks_of.autocast_type(config.compute.precision, processes.device)
        self.scaler = torch.amp.GradScaler(processes.device.type, enabled=self.dtype == torch.float16)

    def advance(
        self, step: int, image_VBHW3: Tensor, label_B: Tensor, quality_B: Tensor | None = None
    ) -> HeadOutput:
        """Make step number ``step``, counted from 0, on a batch of ``Samples`` with this stepper's ``brisque``.

        A step whose gradient overflows in fp16 changes no weight; the loss scale is halved.
        """
        config, networks = self.config, self.networks
        for group in self.optimiser.param_groups:
            group["lr"] = config.schedule.rate(step, self.order.steps_per_epoch) * group["rate_scale"]
        networks.head.ramp = config.schedule.margin_share(step, self.order.steps_per_epoch)
        # dropout draws from the step alone, so that no generator's state need be kept
        torch.manual_seed(config.seed + SEED_OF_STEP * (step + 1) + SEED_OF_RANK * self.processes.rank)
        self.backbone.train()
        for module in self.frozen:
            module.eval()
        views = [to_network(from_rows(image), config.color_order, config.value_range) for image in image_VBHW3]
        if self.dtype == torch.float64:
            views = [view.double() for view in views]
        networks.head.quality_of_batch_B = quality_B
        epoch = step / self.order.steps_per_epoch
        output: HeadOutput = networks.objective(self.features, networks.head, views, label_B, epoch)
        self.optimiser.zero_grad()
        self.scaler.scale(output.loss).backward()  # type: ignore[no-untyped-call]
        self.share_gradients()
        if config.schedule.clip_norm is not None:
            self.scaler.unscale_(self.optimiser)
            # a quality layer is part of CR-FIQA's backbone; left out, its steps are as large as the loss is steep
            layer = networks.objective.quality_layer()
            layers = [networks.backbone] if layer is None else [networks.backbone, layer]
            nn.utils.clip_grad_norm_(nn.ModuleList(layers).parameters(), config.schedule.clip_norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        networks.objective.after_step(networks.backbone)
        if self.average is not None:
            self.average.follow(step + 1)
        return output

    def features(self, image_B3HW: Tensor) -> Tensor:
        """Return feature_BD in float32, the lowest precision that heads use."""
        with self.autocast():
            feature_BD: Tensor = self.backbone(image_B3HW)
        return feature_BD.float() if self.is_halved else feature_BD

    @property
    def is_halved(self) -> bool:
        """Whether the backbone computes in half precision."""
        return self.dtype in (torch.float16, torch.bfloat16)

    def autocast(self) -> torch.autocast:
        """Return the context in which backbones compute in the configured precision."""
        return torch.autocast(self.processes.device.type, self.dtype, enabled=self.is_halved)

    def share_gradients(self) -> None:
        """Average the objective's gradients, which DDP does not cover, and agree on overflow."""
        if self.processes.size == 1:
            return
        for parameter in self.networks.objective.parameters():
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)
                parameter.grad /= self.processes.size
        weight = self.networks.head.weight
        if self.scaler.is_enabled() and weight.grad is not None:
            # an overflow in one process's classes must skip the step in all
            value = weight.grad.coalesce().values() if weight.grad.is_sparse else weight.grad
            if self.processes.any(not bool(value.isfinite().all()))[0]:
                weight.grad *= float("inf")

    def optimiser_state(self) -> dict[str, dict[str, Tensor]]:
        """Return momentum, or means and step counts, of each parameter that has them, by the parameter's name."""
        states = self.optimiser.state
        named = [(name, states[p]) for name, p in self.networks.modules().named_parameters() if p in states]
        return {name: {key: value for key, value in state.items() if value is not None} for name, state in named}

    def load_optimiser_state(self, states: dict[str, dict[str, Tensor]]) -> None:
        """Set the optimiser's state of each named parameter."""
        self.optimiser.state.clear()
        counts_on_host = not self.optimiser.defaults.get("fused")
        for name, parameter in self.networks.modules().named_parameters():
            for key, value in states.get(name, {}).items():
                on_host = key == "step" and counts_on_host
                self.optimiser.state[parameter][key] = value.cpu() if on_host else value

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
        """Return the state common to all processes, the rows of this process's classes, and its other own state."""
        networks, states = self.networks, self.optimiser_state()
        head = dict(networks.head.state_dict())
        rows = {"weight": head.pop("weight")}
        of_weight = states.pop("head.weight", {})
        by_row = {key for key, value in of_weight.items() if value.shape == rows["weight"].shape}
        rows |= {f"{OPTIMISER}{key}": of_weight[key] for key in by_row}
        states["head.weight"] = {key: value for key, value in of_weight.items() if key not in by_row}
        shared = {
            "backbone": networks.backbone.state_dict(), "head": head, "optimiser": states,
            "scaler": self.scaler.state_dict(),
        }  # fmt: skip
        if self.average is not None:
            shared["ema"], rows["ema"] = self.average.state()
        return shared, rows, dict(networks.objective.state_dict())

    def load_state(self, shared: dict[str, Any], rows: dict[str, Tensor], own: dict[str, Tensor]) -> None:
        """Restore a saved state, with this process's rows of it."""
        networks, states = self.networks, dict(shared["optimiser"])
        networks.backbone.load_state_dict(shared["backbone"])
        networks.head.load_state_dict({**shared["head"], "weight": rows["weight"]})
        networks.objective.load_state_dict(own)
        by_row = {key.removeprefix(OPTIMISER): value for key, value in rows.items() if key.startswith(OPTIMISER)}
        states["head.weight"] = {**states["head.weight"], **by_row}
        self.load_optimiser_state(states)
        if self.average is not None:
            self.average.load_state(shared["ema"], rows["ema"])
        if shared["scaler"]:  # none where it was not fp16: another device's `auto`
            self.scaler.load_state_dict(shared["scaler"])
