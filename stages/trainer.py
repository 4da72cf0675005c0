"""The training loop that train_backbone runs: SGD as in AdaFace train_val.py, and checkpoints to resume from.

The weights depend on the configuration and the records and on nothing else: not on how many processes load, nor on
whether the training was killed and resumed. (Bit for bit on one machine's CPU; on a GPU as far as kernels allow.)

Shapes: B batch, C classes, D feature dimensions.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from stages import plugins, progress
from stages.checkpoints import Checkpoints
from stages.core.head import CosineHead, HeadOutput
from stages.core.objective import Objective
from stages.core.order import Order
from stages.core.pixels import from_rows, to_network
from stages.samples import Batch, Records, Samples, load
from stages.training import Config, Schedule

CHECKPOINT_S = 600.0
"""Longest time without a checkpoint, in seconds; there is one after every epoch as well."""
LOG_STEPS = 20
"""Steps between two measurements; reading the loss makes a GPU wait."""


@dataclass
class Networks:
    """What is trained, and the configurations with every default filled in."""

    backbone: nn.Module
    head: CosineHead
    objective: Objective
    backbone_config: BaseModel
    head_config: BaseModel

    def modules(self) -> nn.ModuleDict:
        """Return all that is trained."""
        return nn.ModuleDict({"backbone": self.backbone, "head": self.head, "objective": self.objective})


@dataclass
class Sums:
    """Sums over the steps of an epoch, on the device: nothing waits for them until they are read."""

    num_images: int = 0
    num_steps: int = 0
    total_3: Tensor = field(default_factory=lambda: torch.zeros(3, dtype=torch.float64))

    def add(self, output: HeadOutput) -> None:
        """Add one step: loss (per step), hits and target cosines (per image)."""
        hits, cosine = output.hit_B.double().sum(), output.target_cosine_B.double().sum()
        step_3 = torch.stack([output.loss.detach().double(), hits, cosine])
        self.total_3 = self.total_3.to(step_3.device) + step_3
        self.num_images += len(output.hit_B)
        self.num_steps += 1

    def means(self) -> dict[str, float]:
        """Return mean loss, share of images nearest their own centre, and mean cosine with it."""
        loss, hits, cosine = self.total_3.tolist()
        return {
            "loss": loss / self.num_steps,
            "accuracy": hits / self.num_images,
            "target_cosine": cosine / self.num_images,
        }


def build(config: Config, num_classes: int) -> Networks:
    """Return backbone and head with initial weights drawn from the seed."""
    backbones = plugins.load("backbones", config.backbone["name"])
    heads = plugins.load("heads", config.head["name"])
    backbone_config = backbones.Config.model_validate(config.backbone)
    head_config = heads.Config.model_validate(config.head)
    # before the networks are made: AdaFace's main.py seeds after, so that its initial weights are anyone's
    torch.manual_seed(config.seed)
    backbone = backbones.build(backbone_config)
    head = heads.Head(head_config, backbone_config.feature_dim, num_classes)
    objectives = plugins.load("objectives", config.objective["name"])
    objective_config = objectives.Config.model_validate(config.objective)
    objective = objectives.build(objective_config, backbone_config.feature_dim, num_classes)
    return Networks(backbone, head, objective, backbone_config, head_config)


class Training:
    """One training: its networks, optimiser and position, all of which a checkpoint holds."""

    def __init__(self, config: Config, records: Records, where: torch.device) -> None:
        self.config, self.records, self.device = config, records, where
        self.order = Order(len(records.key_N), config.schedule.batch_size, config.seed)
        self.networks = build(config, records.num_classes)
        # measured on CPUs as well as GPUs: channels-last is the faster one
        self.networks.backbone.to(where).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.networks.head.to(where)
        self.networks.objective.to(where)
        self.optimiser = torch.optim.SGD(
            parameter_groups(self.networks.modules(), config.schedule),
            lr=config.schedule.learning_rate,
            momentum=config.schedule.momentum,
        )
        self.step = 0
        self.note = ""
        self.sums = Sums()
        self.history: list[dict[str, float]] = []

    @property
    def num_steps(self) -> int:
        """Steps of the whole training."""
        return self.config.schedule.epochs * self.order.steps_per_epoch

    def run(self, checkpoints: Checkpoints, label: str) -> None:
        """Train to the end, from the last checkpoint where there is one.

        Raises:
            ValueError: the loss is not finite, or an image cannot be decoded.
        """
        state = checkpoints.last(self.device)
        if state is not None:
            self.load_state(state)
            progress.say(f"{label}: resumed after step {self.step} of {self.num_steps}")
        lines = progress.Progress(label, (self.num_steps - self.step) * self.order.size, "images")
        saved_s = time.monotonic()
        for image_BHW3, label_B in self.batches():
            output = self.advance(image_BHW3, label_B)
            ended = self.step % self.order.steps_per_epoch == 0
            if ended or self.step % LOG_STEPS == 0:
                self.report(output)
            if ended:
                self.end_epoch(output)
            if ended or time.monotonic() - saved_s > CHECKPOINT_S:
                checkpoints.save(self.state())
                saved_s = time.monotonic()
            lines.advance(self.order.size, note=self.note)

    def batches(self) -> Iterator[Batch]:
        """Yield the batches that are still to come."""
        samples = Samples(self.records, self.config.augmentation.probabilities(), self.config.seed)
        return load(samples, self.order, self.step, self.num_steps, self.device)

    def advance(self, image_BHW3: Tensor, label_B: Tensor) -> HeadOutput:
        """Take one step."""
        rate = self.config.schedule.rate(self.step, self.order.steps_per_epoch)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.networks.head.ramp = self.config.schedule.margin_share(self.step, self.order.steps_per_epoch)
        # dropout draws from the step alone, so that no generator's state need be kept
        torch.manual_seed(self.config.seed + 1_000_003 * (self.step + 1))
        self.networks.backbone.train()
        images = [to_network(from_rows(image_BHW3), self.config.color_order)]
        epoch = self.step / self.order.steps_per_epoch
        output: HeadOutput = self.networks.objective(self.features, self.networks.head, images, label_B, epoch)
        self.optimiser.zero_grad()
        output.loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.networks.objective.after_step(self.networks.backbone)
        self.step += 1
        self.sums.add(output)
        return output

    def features(self, image_B3HW: Tensor) -> Tensor:
        """Return feature_BD float32: heads compute in nothing less."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            feature_BD: Tensor = self.networks.backbone(image_B3HW)
        return feature_BD.float()

    def report(self, output: HeadOutput) -> None:
        """Log one measurement, and refuse to go on with a loss that is none."""
        loss = float(output.loss.detach())
        rate = self.optimiser.param_groups[0]["lr"]
        if not math.isfinite(loss) or not math.isfinite(self.sums.means()["loss"]):
            raise ValueError(
                f"the loss is {loss} at step {self.step} of {self.num_steps} (learning rate {rate:g}): "
                "lower schedule.learning_rate or lengthen schedule.warmup_epochs"
            )
        self.note = f"loss {loss:.3f}"
        terms = {name: float(value) for name, value in output.terms.items()}
        means = self.sums.means() | {"loss": loss}
        progress.log_point(self.step, **means, learning_rate=rate, **terms)

    def end_epoch(self, output: HeadOutput) -> None:
        """Write down what the epoch came to."""
        terms = {name: float(value) for name, value in output.terms.items()}
        rate = self.optimiser.param_groups[0]["lr"]
        self.history.append(
            {"epoch": len(self.history) + 1, **self.sums.means(), "learning_rate": rate, **terms}
        )
        self.sums = Sums()

    def state(self) -> dict[str, Any]:
        """Return everything that a later process needs to go on."""
        return {
            "backbone": self.networks.backbone.state_dict(),
            "head": self.networks.head.state_dict(),
            "objective": self.networks.objective.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "sums": vars(self.sums),
            "history": self.history,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on where ``state`` was taken."""
        self.networks.backbone.load_state_dict(state["backbone"])
        self.networks.head.load_state_dict(state["head"])
        self.networks.objective.load_state_dict(state["objective"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]
        self.sums = Sums(**state["sums"])
        self.history = state["history"]


def parameter_groups(networks: nn.Module, schedule: Schedule) -> list[dict[str, Any]]:
    """Return the parameters with weight decay, and those of batch norms without (AdaFace utils.py)."""
    norms = [module for module in networks.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    spared = {id(parameter) for module in norms for parameter in module.parameters(recurse=False)}
    trained = [parameter for parameter in networks.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if id(p) not in spared], "weight_decay": schedule.weight_decay},
        {"params": [p for p in trained if id(p) in spared], "weight_decay": 0.0},
    ]
