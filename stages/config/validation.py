"""Evaluation during training: which test sets, how often, and whether the best weights are kept by them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from stages.config.evaluation import Fiqa, Ijb, Lq
from stages.core.errors import InputError

AVERAGE = "avg"
FIVE = ("lfw", "cfp_fp", "cplfw", "calfw", "agedb_30")
LATER = ("every_steps", "dataset", "suites", "best_by")
"""Fields that are left out where a run does not use them: its parameters are then those that it always had."""


class Suites(BaseModel, extra="forbid", frozen=True):
    """Further suites, each with the options of `benchmarks`."""

    ijb: Ijb = Ijb.model_validate({})
    lq: Lq = Lq.model_validate({})
    fiqa: Fiqa = Field(Fiqa.model_validate({}), description="of the feature norm, for no other method is trained yet")

    @model_validator(mode="after")
    def _one_network_alone(self) -> Self:
        if self.fiqa.methods or self.fiqa.recognition:
            raise InputError("fiqa has the feature norm alone while a network trains: remove methods and recognition")
        return self

    def chosen(self) -> dict[str, Ijb | Lq | Fiqa]:
        """Return the suites that have a set."""
        every: dict[str, Ijb | Lq | Fiqa] = {"ijb": self.ijb, "lq": self.lq, "fiqa": self.fiqa}
        return {name: switches for name, switches in every.items() if switches.sets}


class Validation(BaseModel, extra="forbid", frozen=True):
    """Evaluation on test sets during training. `keep: best` selects on them: not a test result."""

    every_epochs: int = Field(0, ge=0, description="and after the last; 0: never")
    every_steps: int = Field(0, ge=0, description="and after the last; 0: not by steps")
    dataset: str | None = Field(None, description="that has the test sets; null: the one that is trained on")
    sets: tuple[str, ...] = Field(FIVE, description="of hq; where `suites` are given, none by default")
    fusion: Literal["none", "pre_norm_sum"] = Field(
        "none", description="of hq; pre_norm_sum adds the mirrored image's feature, for twice the time"
    )
    suites: Suites = Field(Suites.model_validate({}), description="sets of other suites, with benchmarks' options")
    keep: Literal["last", "best", "ema"] = Field(
        "last", description="which weights are evaluated; AdaFace: best mean accuracy on its five test sets; ema: the"
        " average of schedule.ema_decay"
    )
    best_by: tuple[str, ...] = Field(
        (), description="what is best: the mean of these columns, as lq.tinyface_rank1; with a - before it, lower is"
        " better: -fiqa.lfw_feature_norm_edc_auc_fmr1e-02; none: the mean over `sets`"
    )

    @model_validator(mode="before")
    @classmethod
    def _suites_replace_the_five(cls, tree: Any) -> Any:
        if isinstance(tree, Mapping) and tree.get("suites") and "sets" not in tree:
            return {**tree, "sets": ()}
        return tree

    @model_serializer(mode="wrap")
    def _without_what_is_not_used(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        tree: dict[str, Any] = handler(self)
        fields = type(self).model_fields
        unused = [name for name in LATER if getattr(self, name) == fields[name].default]
        return {name: value for name, value in tree.items() if name not in unused}

    @property
    def is_wanted(self) -> bool:
        """Whether anything is evaluated at all."""
        return bool(self.every_epochs or self.every_steps)

    @model_validator(mode="after")
    def best_was_looked_for(self) -> Self:
        """Refuse to keep the best without validation, and columns that nothing measures."""
        if self.keep == "best" and not self.is_wanted:
            raise InputError("`keep: best` needs every_epochs of at least 1, got 0 (or every_steps)")
        if self.is_wanted and not self.sets and not self.suites.chosen():
            raise InputError("a validation needs a set: name some under `sets` or `suites`, or leave every_epochs at 0")
        if self.keep == "best" and not self.sets and not self.best_by:
            raise InputError("`keep: best` without `sets` of hq needs `best_by`, the columns whose mean decides")
        for column in self.best_by:
            self._check_column(column)
        return self

    def _check_column(self, column: str) -> None:
        """Refuse a column that no set of this validation gives, as far as its name tells."""
        suite, _, metric = column.removeprefix("-").partition(".")
        chosen = {"hq": self.sets, **{name: switches.sets for name, switches in self.suites.chosen().items()}}
        named = tuple(chosen.get(suite, ()))
        if suite == "hq":
            fits = metric in (*named, AVERAGE)
        else:
            fits = metric.lower().startswith(tuple(f"{name.lower()}_" for name in named)) if named else False
        if not fits:
            there = "; ".join(f"{name}: {', '.join(sets)}" for name, sets in chosen.items() if sets)
            raise InputError(
                f"best_by {column}: wanted SUITE.METRIC of a set that is validated, as hq.lfw or lq.tinyface_rank1; "
                f"validated are {there or 'none'}"
            )

    def score(self, measured: Mapping[str, float]) -> float | None:
        """Return what the best weights are chosen by; higher is better. None if nothing says so.

        Args:
            measured: by name, as ``lfw``, ``avg``, ``lq.tinyface_rank1``.

        Raises:
            ValueError: a column was not measured; the message lists those that were.
        """
        if not self.best_by:
            return measured.get(AVERAGE)
        total = 0.0
        for column in self.best_by:
            name = column.removeprefix("-").removeprefix("hq.")
            if name not in measured:
                there = ", ".join(measured)
                raise InputError(f"validation.best_by {column}: there is no such number; there are {there}")
            total += -measured[name] if column.startswith("-") else measured[name]
        return total / len(self.best_by)
