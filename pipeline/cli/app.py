"""What all topics of the command `facet` share: the app, common options, errors printed as one sentence."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, ParamSpec, TypeVar

import typer

from pipeline.base import environment
from stages.core.errors import InputError, OperationError
from stages.runtime import program

P = ParamSpec("P")
R = TypeVar("R")

app = typer.Typer(
    help="Face-recognition ablations as a DVC graph: run it in parallel, watch it, read its tables.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"color": False} if os.environ.get("NO_COLOR") else None,
)

Targets = Annotated[
    list[str] | None,
    typer.Argument(help="Stages (train_backbone@adaface, or evaluate_hq for all), tables or runs; default: all"),
]


def in_a_sentence(command: Callable[P, R]) -> Callable[P, R]:
    """Make a command print expected errors as one sentence."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            answer = command(*args, **kwargs)
            sys.stdout.flush()
            return answer
        except (InputError, OperationError, OSError) as error:
            # `facet status | head`: who reads has seen enough
            if isinstance(error, BrokenPipeError) and program.reader_has_gone():
                raise typer.Exit(141) from None
            if os.environ.get("FACET_DEBUG"):
                raise
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(getattr(error, "exit_code", 2)) from error

    return wrapped


def enter() -> Path:
    """Change to the project's root folder and return it."""
    root = environment.find_root()
    os.chdir(root)
    environment.enter(root)
    return root
