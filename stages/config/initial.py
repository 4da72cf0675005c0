"""Weights that a training run starts from: `initial` of a run, and the folder that params.yaml names for it.

A run says ``initial: {model: NAME, ...}``. DVC's templates cannot look up a field that only some runs have, so
params.yaml names the folder once more, in a section of its own: ``initial: {RUN: {folder: models/NAME}}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field

from stages.core.errors import InputError, UnknownNameError

IMPORTED = "models"
"""Folder of imported checkpoints."""


def _parts(names: tuple[str, ...]) -> tuple[str, ...]:
    odd = [name for name in names if name.split(".")[0] not in ("backbone", "head")]
    if odd:
        raise InputError(f"a part begins with backbone or is the head, as backbone.body.0; got {', '.join(odd)}")
    if len(set(names)) < len(names):
        raise InputError(f"each part may be listed once, got {', '.join(names)}")
    return names


class Initial(BaseModel, extra="forbid", frozen=True):
    """Weights to start from, in place of those that are drawn from the seed."""

    model: str = Field(
        pattern=r"^[a-z][a-z0-9_]*$",
        description="a run, or an imported checkpoint of models/; params.yaml names its folder under `initial` too",
    )
    head: Literal["new", "keep"] = Field(
        "new", description="class centres. new: drawn from the seed; keep: the model's, by the names of the classes"
        " where both are known, else class by class, and the head's statistics"
    )
    frozen: Annotated[tuple[str, ...], AfterValidator(_parts)] = Field(
        (), description="parts that stay as they are, batch norms' statistics too, as backbone.body.0; backbone: the"
        " head alone learns; head: the centres stay"
    )
    backbone_learning_rate: float | None = Field(
        None, gt=0, description="learning rate of the backbone, falling as schedule.learning_rate does, which is then"
        " the head's alone; null: one rate for both"
    )


class InitialFolder(BaseModel, extra="forbid", frozen=True):
    """The folder of the model that a run starts from."""

    folder: str = Field(description="runs/RUN/backbone or models/NAME")


def folder_of(model: str, runs: Mapping[str, object]) -> str:
    """Return the folder of a model: a run's, else that of an imported checkpoint.

    >>> folder_of("adaface", {"adaface": {}}), folder_of("adaface_r50", {"adaface": {}})
    ('runs/adaface/backbone', 'models/adaface_r50')
    """
    return f"runs/{model}/backbone" if model in runs else f"{IMPORTED}/{model}"


def check(folders: Mapping[str, InitialFolder], runs: Mapping[str, Initial | None]) -> None:
    """Refuse a section `initial` of params.yaml that does not agree with the runs.

    Raises:
        LookupError: it names a run that is not there.
        ValueError: a run lacks its folder there or has another one, has no `initial`, or starts from itself.
    """
    for run in folders:
        if run not in runs:
            raise UnknownNameError(f"params.yaml, initial.{run}: no run {run!r}: there are {', '.join(sorted(runs))}")
        if runs[run] is None:
            raise InputError(
                f"params.yaml, initial.{run}: the run says no `initial`: add `initial: {{model: NAME}}` to runs.{run}, "
                "or remove this line"
            )
    for run, initial in runs.items():
        if initial is None:
            continue
        wanted = folder_of(initial.model, runs)
        given = folders[run].folder if run in folders else None
        is_imported = initial.model not in runs and given is not None and PurePosixPath(given).name == initial.model
        if given != wanted and not is_imported:
            raise InputError(
                f"params.yaml, runs.{run}: it starts from {initial.model}, and section `initial` of params.yaml, where "
                f"DVC reads the folder, has {given or 'no line'} for it: write `{run}: {{folder: {wanted}}}` there"
            )
        _refuse_circle(run, runs)


def _refuse_circle(run: str, runs: Mapping[str, Initial | None]) -> None:
    seen = [run]
    while (initial := runs.get(seen[-1])) is not None:
        if initial.model in seen:
            raise InputError(f"params.yaml, runs.{run}.initial: {' starts from '.join([*seen, initial.model])}")
        seen.append(initial.model)
