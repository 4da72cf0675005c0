"""Options of a run: how stages are to be run, as every command that runs some takes them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer

from pipeline.base import environment
from pipeline.base.workspace import Workspace
from pipeline.devices import leases

if TYPE_CHECKING:
    from pipeline.execution.executor import Executor
    from pipeline.execution.fork_server import Forker
    from pipeline.execution.graph import Graph

R = TypeVar("R")


@dataclass(frozen=True)
class RunOptions:
    """How stages are to be run."""

    jobs: Annotated[
        int | None,
        typer.Option("--jobs", "-j", min=1, help="Stages at a time; default: one per core plus those on the GPUs"),
    ] = None
    per_device: Annotated[int, typer.Option(min=1, help="Stages at a time on one GPU.")] = 1
    retries: Annotated[
        int, typer.Option(min=0, help="Extra attempts for a stage that was killed, crashed, hung or exited with 75.")
    ] = 2
    timeout_minutes: Annotated[
        float,
        typer.Option(
            "--timeout", min=0, help="Minutes without output after which a stage counts as hung; 0: never."
        ),
    ] = 30.0
    track: Annotated[bool, typer.Option(help="Record finished rows in MLflow at the end.")] = True
    pool: Annotated[
        str | None,
        typer.Option("--pool", help="Send training runs to the workers of this Prefect work pool."),
    ] = None

    plain: Annotated[
        bool, typer.Option("--plain", help="Print lines, as without a terminal, in place of the live board.")
    ] = False

    def executor(self, where: Workspace, forker: Forker | None = None) -> Executor:
        """Return what runs the stages of a workspace; with a pool, Prefect's settings must be made before.

        Args:
            where: the workspace.
            forker: its fork server, if one runs already.
        """
        from pipeline.execution.executor import Executor, Patience

        patience = Patience(silent_s=self.timeout_minutes * 60 or None, retries=self.retries)
        slots = environment.state_folder(where.project).resolve() / "leases"
        if self.pool is not None:
            from pipeline.workers.pool_executor import PoolExecutor

            return PoolExecutor(where.folder, self.pool, self.jobs, patience, slots, forker)
        jobs = leases.num_jobs(self.jobs, environment.num_cores(), self.per_device)
        return Executor(where.folder, jobs, self.per_device, patience, slots, forker)


@dataclass(frozen=True)
class Prepared:
    """A workspace's fork server and graph: to look whether anything is stale takes both, and so does the run."""

    forker: Forker
    graph: Graph


def with_run_options(command: Callable[..., R]) -> Callable[..., R]:
    """Give a command of the app every option of ``RunOptions`` in place of its parameter ``options``."""
    hints = get_type_hints(RunOptions, include_extras=True)
    named = [
        inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=hints[one.name])
        for one in fields(RunOptions)
    ]
    own = inspect.signature(command, eval_str=True).parameters.values()
    others = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own]

    @functools.wraps(command)
    def wrapped(**given: Any) -> R:
        options = RunOptions(**{one.name: given.pop(one.name) for one in named})
        return command(options=options, **given)

    parameters = [each for one in others for each in (named if one.name == "options" else [one])]
    # what typer reads
    wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {one.name: one.annotation for one in parameters}
    return wrapped
