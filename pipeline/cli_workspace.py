"""Runs what is stale in a side workspace: a sweep's, or that of the documents' tables."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from pipeline.cli_run import How
    from pipeline.execute import Executor
    from pipeline.graph import Graph
    from pipeline.records import LastRun


@contextmanager
def refusing_other_work() -> Iterator[None]:
    """Leave with one sentence and exit code 1 where a workspace is in use for other work than what is asked for."""
    from pipeline import side_workspace

    try:
        yield
    except side_workspace.OtherWorkError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error


def run_in(root: Path, workspace: Path, targets: Sequence[str], name: str, how: How) -> LastRun | None:
    """Run what is stale of ``targets``, with the servers, leases and records of the project at ``root``.

    Args:
        root: of the project.
        workspace: opened, and kept so by the caller.
        targets: stages; none for all.
        name: of the flow run.
        how: to run them.

    Returns:
        How the flow run ended; None if there was nothing to do.
    """
    from pipeline import environment, recording
    from pipeline.cli_run import tell_prefect

    last = None
    os.chdir(workspace)
    executor = how.executor(workspace, environment.state_folder(root).resolve() / "leases")
    try:
        graph = executor.read_graph()
        part = graph.select(targets)
        if graph.stale(part):
            last = _flow(root, workspace, targets, name, how, executor, graph)
        else:
            typer.echo(f"nothing to do: {len(part)} stages are up to date")
            tell_prefect(root, workspace)
    finally:
        executor.close()
        os.chdir(root)
    if last is None and how.track:
        # rebuilds the records if MLflow was away or somebody deleted them
        recording.track(root, typer.echo, workspace=workspace)
    return last


def _flow(
    root: Path, workspace: Path, targets: Sequence[str], name: str, how: How, executor: Executor, graph: Graph
) -> LastRun:
    from pipeline.cli_run import say_how_it_ended
    from pipeline.cli_servers import enter_prefect

    # Prefect reads its settings when it is imported
    api_url = enter_prefect(root)
    from pipeline import flows

    prepared = flows.Prepared(workspace, executor, graph, how.track, home=root)
    last = flows.run(prepared, targets, how.jobs, name)
    say_how_it_ended(last, api_url)
    return last
