"""Configuration that determines a backbone's weights: data set, networks, objective, augmentation, schedule, seed.

trainer.py runs it. What changes no weight (loader processes, how often a checkpoint is written) is in the environment.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from stages.config.initial import Initial
from stages.config.validation import Validation
from stages.core.errors import InputError
from stages.core.images import augment, low_view
from stages.core.images.pixels import VALUE_RANGE, ColorOrder

Precision = Literal["auto", "fp32", "bf16", "fp16", "fp64"]


class LowView(BaseModel, extra="forbid", frozen=True):
    """Operations of QGFace's low view after its loss of resolution; the probabilities are known at second hand."""

    crop_probability: float = Field(0.2, ge=0, le=1)
    photometric_probability: float = Field(0.2, ge=0, le=1)
    rotation_probability: float = Field(0.2, ge=0, le=1)

    def probabilities(self) -> low_view.Probabilities:
        """Return the probabilities of the view."""
        return low_view.Probabilities(
            self.crop_probability, self.photometric_probability, self.rotation_probability
        )


class Augmentation(BaseModel, extra="forbid", frozen=True):
    """AdaFace's three operations (AdaFace dataset/augmenter.py), each drawn independently, then a flip."""

    crop_probability: float = Field(ge=0, le=1, description="cut-out crop pasted in place on black")
    low_res_probability: float = Field(ge=0, le=1, description="down and up by two interpolations")
    photometric_probability: float = Field(ge=0, le=1, description="brightness, contrast, saturation")
    low_view: LowView = Field(
        default_factory=lambda: LowView.model_validate({}), description="for objectives that use the view `low`"
    )

    def probabilities(self) -> augment.Probabilities:
        """Return the probabilities of the augmentation."""
        return augment.Probabilities(
            self.crop_probability, self.low_res_probability, self.photometric_probability
        )


class Schedule(BaseModel, extra="forbid", frozen=True):
    """Optimiser and learning rate, which falls at milestones (AdaFace train_val.py), polynomially or as a cosine."""

    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=2, description="batch size of one step, over all processes")
    optimiser: Literal["sgd", "adamw"] = Field(
        "sgd", description="adamw: Loshchilov and Hutter, ICLR 2019; insightface's and CVLface's configurations of ViTs"
    )
    learning_rate: float = Field(gt=0, description="learning rate for that batch size; it is never scaled")
    head_learning_rate_scale: float = Field(
        1.0, gt=0, description="learning rate of the head as a multiple of the backbone's: insightface's lr_pfc_weight"
        " (lr_scheduler.py at 7fadd420, 1/3 there)"
    )
    decay: Literal["milestones", "polynomial", "cosine"] = Field(
        "milestones", description="polynomial: (1 - share of the steps after warm-up) ^ power, per step (insightface);"
        " cosine: half a cosine over those steps (SGDR, Loshchilov and Hutter, ICLR 2017, eq. 5; CVLface)"
    )
    milestones: tuple[int, ...] = Field((), description="epochs after which the rate is multiplied by gamma")
    gamma: float = Field(0.1, gt=0, le=1)
    power: float = Field(1.0, gt=0, description="of the polynomial")
    final_learning_rate: float = Field(0.0, ge=0, description="at the end of the cosine; CVLface: 0")
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD")
    nesterov: bool = Field(False, description="Nesterov's momentum for SGD (Sutskever et al., ICML 2013), as in torch")
    betas: tuple[float, float] = Field(
        (0.9, 0.999), description="of AdamW: decay of its means of gradients and of their squares; torch's defaults,"
        " which insightface and CVLface leave"
    )
    epsilon: float = Field(1e-8, gt=0, description="of AdamW, added to the root of the mean square; torch's default")
    weight_decay: float = Field(5e-4, ge=0, description="AdamW multiplies it by the learning rate alone")
    decayed: Literal["all", "all_but_batch_norms", "all_but_batch_norms_and_biases", "all_but_vectors"] = Field(
        "all_but_batch_norms", description="parameters with weight decay; AdaFace: all but batch norms; CVLface: all"
        " but vectors (norms, biases, PReLUs), position embeddings and tokens"
    )
    ema_decay: float | None = Field(
        None, gt=0, lt=1, description="weight of the earlier ones in an exponential moving average of all weights, kept"
        " beside the last ones (Polyak and Juditsky, 1992; timm's ModelEmaV3); null: none"
    )
    ema_warmup: bool = Field(
        False, description="the decay is at most (1 + n) / (10 + n) after n steps (TensorFlow's"
        " ExponentialMovingAverage): for runs of few steps, which the average would otherwise begin in"
    )
    warmup_epochs: float = Field(0.0, ge=0, description="learning rate linear from zero")
    margin_warmup_epochs: float = Field(
        0.0, ge=0, description="margin linear from none; published recipes: 0. Small networks and few steps need it:"
        " a margin from the start drives their features to where all cosines are alike"
    )
    clip_norm: float | None = Field(
        None, gt=0, description="largest norm of the gradient of the backbone, and of the quality layer where there is"
        " one; insightface, CR-FIQA: 5; null: any"
    )

    @model_validator(mode="after")
    def decays_one_way(self) -> Self:
        """Refuse milestones that a polynomial or a cosine would ignore, and a warm-up without end."""
        if self.decay != "milestones" and self.milestones:
            raise InputError(f"milestones {list(self.milestones)} have no effect with decay: {self.decay}; remove one")
        if self.final_learning_rate and self.decay != "cosine":
            raise InputError(f"final_learning_rate {self.final_learning_rate} is for decay: cosine, got {self.decay}")
        if self.final_learning_rate > self.learning_rate:
            raise InputError(
                f"final_learning_rate {self.final_learning_rate} should not be above learning_rate {self.learning_rate}"
            )
        if self.warmup_epochs >= self.epochs:
            raise InputError(f"warmup_epochs {self.warmup_epochs} should be less than epochs {self.epochs}")
        return self

    @model_validator(mode="after")
    def optimiser_has_what_it_needs(self) -> Self:
        """Refuse Nesterov's momentum without momentum, and decays that are none."""
        if self.nesterov and (self.optimiser != "sgd" or not self.momentum):
            raise InputError(
                f"nesterov is for SGD with momentum, got optimiser {self.optimiser}, momentum {self.momentum}: "
                "remove it"
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"betas should be two numbers of at least 0 and less than 1, got {list(self.betas)}")
        if self.ema_warmup and self.ema_decay is None:
            raise InputError("ema_warmup needs an ema_decay, got none: give one, such as 0.9999")
        return self

    def rate(self, step: int, steps_per_epoch: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        warmup = self.warmup_epochs * steps_per_epoch
        if self.decay == "milestones":
            epoch = step // steps_per_epoch
            rate = self.learning_rate * self.gamma ** sum(epoch >= milestone for milestone in self.milestones)
        else:
            gone = max(0.0, step - warmup) / (self.epochs * steps_per_epoch - warmup)
            rate = self._fallen(gone)
        return rate * _risen(step + 1, warmup)

    def _fallen(self, gone: float) -> float:
        """Return the rate after a share of the steps that follow the warm-up."""
        if self.decay == "polynomial":
            return self.learning_rate * math.pow(1 - gone, self.power)
        height = self.learning_rate - self.final_learning_rate
        return self.final_learning_rate + height * (1 + math.cos(math.pi * gone)) / 2

    def ema_decay_at(self, step: int) -> float:
        """Return the weight of the earlier weights in their average after ``step`` steps, counted from 1."""
        assert self.ema_decay is not None
        return min(self.ema_decay, (1 + step) / (10 + step)) if self.ema_warmup else self.ema_decay

    def margin_share(self, step: int, steps_per_epoch: int) -> float:
        """Return the share of the head's margin in force at a step, 0 to 1."""
        return _risen(step, self.margin_warmup_epochs * steps_per_epoch)


class Compute(BaseModel, extra="forbid", frozen=True):
    """Numerical settings. No paper specifies them and each changes the last bits, so they are explicit."""

    precision: Precision = Field(
        "auto", description="of the backbone; heads compute in float32. auto: bf16 on a GPU that has it, fp16 on"
        " another, fp32 on a CPU (without matrix units for it bf16 is 4 to 8 times slower); fp64: heads too, for proofs"
    )
    matmul: Literal["ieee", "tf32"] = Field(
        "ieee", description="float32 products and convolutions on a GPU: heads, and the backbone in fp32. tf32 has 10"
        " bits of mantissa and is several times faster; evaluation is always ieee"
    )
    deterministic: bool = Field(
        False, description="only kernels that give the same bits each time, slower on a GPU; a CPU has no others"
    )
    channels_last: bool = Field(True, description="memory order of images; docs/scale.md has the ratio")
    compile: bool | Literal["auto"] = Field(
        False, description="torch.compile the backbone; auto: on a GPU, for more than 2,000 steps; docs/scale.md"
    )
    chunks: int = Field(
        1, ge=1, description="parts in which a process's batch goes through the backbone, for as much less memory"
        " and 4/3 of the time; the head sees the batch whole, batch norms see a part"
    )
    sync_batch_norm: bool = Field(False, description="batch-norm statistics over all processes, not per process")


class Config(BaseModel, extra="forbid", frozen=True):
    """Everything that determines the weights of a backbone, and nothing else."""

    dataset: str
    backbone: dict[str, Any] = Field(description="name and the fields of stages/backbones/NAME.py")
    head: dict[str, Any] = Field(description="name and the fields of stages/heads/NAME.py")
    objective: dict[str, Any] = Field(
        default={"name": "classification"}, description="name and the fields of stages/objectives/NAME.py"
    )
    initial: Initial | None = Field(None, description="weights to start from; null: drawn from the seed")
    shares: dict[str, Annotated[float, Field(gt=0)]] | None = Field(
        None, description="of a merged data set, by source, its share of every batch, as {web: .7, crowd: .3}; null: as"
        " many images as it has"
    )
    augmentation: Augmentation
    schedule: Schedule
    class_sample_rate: float = Field(
        1.0, gt=0, le=1, description="share of the classes in a step, those of the batch always among them (Partial FC)"
    )
    compute: Compute = Field(default_factory=lambda: Compute.model_validate({}))
    validation: Validation = Field(default_factory=lambda: Validation.model_validate({}))
    color_order: ColorOrder = Field("BGR", description="of the channels the network sees")
    value_range: tuple[float, float] = Field(VALUE_RANGE, description="of its pixels; MagFace: 0 to 1")
    seed: int = Field(ge=0)
    threads: int = Field(
        1, ge=1, description="of a CPU that computes; another number gives other last bits, so it is said here and "
        "not taken from the machine. `facet run --jobs` uses the other cores for other runs"
    )
    processes: int = Field(
        1, ge=1, description="that share each batch and the classes, a GPU each; FACET_PROCS and torchrun may say"
        " another number on another machine, for the same weights up to rounding"
    )

    @model_serializer(mode="wrap")
    def _without_nothing(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # what a run does not use is no dependency of it: one without these has the parameters it always had
        tree: dict[str, Any] = handler(self)
        unused = [name for name in ("initial", "shares") if getattr(self, name) is None]
        return {name: value for name, value in tree.items() if name not in unused}

    @model_validator(mode="after")
    def what_is_kept_is_there(self) -> Self:
        """Refuse to keep an average of the weights that is not made."""
        if self.validation.keep == "ema" and self.schedule.ema_decay is None:
            raise InputError("validation.keep: ema needs schedule.ema_decay, got none: give one, such as 0.9999")
        return self

    @model_validator(mode="after")
    def every_part_has_two_images(self) -> Self:
        """Refuse parts of one image: a batch norm has no variance of them."""
        self.check_parts(self.processes)
        return self

    def check_parts(self, processes: int) -> None:
        """Refuse a number of processes that leaves parts of less than two images.

        Raises:
            ValueError: it does; the message says what the batch is divided by.
        """
        batch_size, chunks = self.schedule.batch_size, self.compute.chunks
        if batch_size // processes // chunks < 2:
            raise InputError(
                f"schedule.batch_size {batch_size}, shared by {processes} processes in {chunks} compute.chunks, leaves "
                f"parts of {batch_size // processes // chunks} images, and a batch norm needs 2: wanted a batch_size "
                f"of at least {2 * processes * chunks}, or fewer of the others"
            )


def _risen(steps: float, full: float) -> float:
    return min(1.0, steps / full) if full else 1.0
