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
    warmup_epochs: float = Field(0.0, ge=0, description="linear from zero")

    def rate(self, step: int, steps_per_epoch: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        epoch = step // steps_per_epoch
        rate = self.learning_rate * self.gamma ** sum(epoch >= milestone for milestone in self.milestones)
        warmup_steps = self.warmup_epochs * steps_per_epoch
        return rate * min(1.0, (step + 1) / warmup_steps) if warmup_steps else rate


class Config(BaseModel, extra="forbid", frozen=True):
    """Everything that decides the weights of a backbone, and nothing else."""

    dataset: str
    backbone: dict[str, Any] = Field(description="name and the fields of stages/backbones/NAME.py")
    head: dict[str, Any] = Field(description="name and the fields of stages/heads/NAME.py")
    augmentation: Augmentation
    schedule: Schedule
    color_order: ColorOrder = Field("BGR", description="of the channels the network sees")
    seed: int = Field(ge=0)
