"""What decides a backbone's weights: data set, networks, augmentation, schedule, seed. trainer.py runs it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from stages.core import augment
from stages.core.pixels import ColorOrder


class Augmentation(BaseModel, extra="forbid", frozen=True):
    """AdaFace's three operations (AdaFace dataset/augmenter.py), each drawn independently, then a flip."""

    crop_probability: float = Field(ge=0, le=1, description="cut-out crop pasted in place on black")
    low_res_probability: float = Field(ge=0, le=1, description="down and up by two interpolations")
    photometric_probability: float = Field(ge=0, le=1, description="brightness, contrast, saturation")

    def probabilities(self) -> augment.Probabilities:
        """Return what the augmentation takes."""
        return augment.Probabilities(
            self.crop_probability, self.low_res_probability, self.photometric_probability
        )


class Schedule(BaseModel, extra="forbid", frozen=True):
    """SGD with momentum, learning rate divided at epoch milestones (AdaFace train_val.py)."""

    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=2)
    learning_rate: float = Field(gt=0)
    milestones: tuple[int, ...] = Field(description="epochs after which the rate is multiplied by gamma")
    gamma: float = Field(0.1, gt=0, le=1)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0, description="not applied to batch-norm parameters")
    warmup_epochs: float = Field(0.0, ge=0, description="learning rate linear from zero")
    margin_warmup_epochs: float = Field(
        0.0, ge=0, description="margin linear from none; published recipes: 0. Small nets and few steps want it:"
        " a margin from the start drives their features to where all cosines are alike"
    )

    def rate(self, step: int, steps_per_epoch: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        epoch = step // steps_per_epoch
        rate = self.learning_rate * self.gamma ** sum(epoch >= milestone for milestone in self.milestones)
        return rate * _risen(step + 1, self.warmup_epochs * steps_per_epoch)

    def margin_share(self, step: int, steps_per_epoch: int) -> float:
        """Return the share of the head's margin in force at a step, 0 to 1."""
        return _risen(step, self.margin_warmup_epochs * steps_per_epoch)


class Config(BaseModel, extra="forbid", frozen=True):
    """Everything that decides the weights of a backbone, and nothing else."""

    dataset: str
    backbone: dict[str, Any] = Field(description="name and the fields of stages/backbones/NAME.py")
    head: dict[str, Any] = Field(description="name and the fields of stages/heads/NAME.py")
    objective: dict[str, Any] = Field(
        default={"name": "classification"}, description="name and the fields of stages/objectives/NAME.py"
    )
    augmentation: Augmentation
    schedule: Schedule
    color_order: ColorOrder = Field("BGR", description="of the channels the network sees")
    seed: int = Field(ge=0)
    threads: int = Field(
        1, ge=1, description="of a CPU that computes; another number gives other last bits, so it is said here and "
        "not taken from the machine. `facet run --jobs` uses the other cores for other runs"
    )


def _risen(steps: float, full: float) -> float:
    return min(1.0, steps / full) if full else 1.0
