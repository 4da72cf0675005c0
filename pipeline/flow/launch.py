"""The launcher: starts the servers that are needed, runs what is stale in a workspace, and prints how that ended."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pipeline.base import environment
from pipeline.base.workspace import Workspace
from pipeline.flow.run_options import Prepared, RunOptions

if TYPE_CHECKING:
    from pipeline.execution.history import LastRun

ENDS = {"COMPLETED": (0, typer.colors.GREEN), "CANCELLED": (130, typer.colors.YELLOW)}
FAILED = (1, typer.colors.RED)
MOST_FAILURES = 20
"""Failed stages that are listed one by one."""


def run_stale(
    where: Workspace, targets: Sequence[str], options: RunOptions, title: str | None = None
) -> LastRun | None:
    """Run what is stale of ``targets`` and of all they need.

    Args:
        where: the workspace; one beside the project is opened, and kept so by the caller.
        targets: stages, tables or runs; none for all.
        options: how to run them.
        title: of the flow run; default: its targets.

    Returns:
        How the flow run ended; None if there was nothing to do.
    """
    from pipeline.execution.fork_server import Forker

    # Prefect takes seconds to start, this one: most often there is nothing to do
    with Forker(where.folder) as forker:
        graph = forker.start("read_graph", {}).wait()
        part = graph.select(targets)
        if graph.stale(part):
            return _flow(where, targets, options, title, Prepared(forker, graph))
    typer.echo(f"nothing to do: {len(part)} stages are up to date")
    _settle(where)
    if where.kind != "project" and options.track:
        from pipeline.tracking import subprocess_client, sync

        # MLflow was away, or its database was deleted; the project has the stage `track` for it
        if not sync.is_recorded(where):
            subprocess_client.track(where, typer.echo)
    return None


def _settle(where: Workspace) -> None:
    """Tell Prefect how earlier runs ended of which its server may not know; most often there is none."""
    from pipeline.execution import history

    if history.unsettled(where.folder):
        enter_prefect(where.project)
        from pipeline.flow import reconcile

        reconcile.settle_all(where.folder)


def _flow(
    where: Workspace, targets: Sequence[str], options: RunOptions, title: str | None, prepared: Prepared
) -> LastRun:
    # Prefect reads its settings when it is imported
    api_url = enter_prefect(where.project)
    from pipeline.flow import facet_run
    from pipeline.servers import servers

    began_s = time.time()
    last = facet_run.run(where, targets, options, prepared, title)
    _, colour = ENDS.get(last.state, FAILED)
    typer.echo(typer.style(last.state.lower(), fg=colour) + f" - {last.message}")
    for line in failures(where.folder, began_s):
        typer.echo(line)
    typer.echo(f"flow run {servers.flow_run_url(api_url.removesuffix('/api'), last.flow_run_id)}")
    return last


def failures(root: Path, since_s: float) -> list[str]:
    """Return a line for each stage whose last attempt failed after ``since_s``: its last output line and its log."""
    from pipeline.execution import history

    every = sorted(history.last_attempts(root).values(), key=lambda one: one.name)
    failed = [one for one in every if one.state == "failed" and one.ended >= since_s][:MOST_FAILURES]
    logs = environment.log_folder(root)
    return [f"  {one.name}: {one.message}; see {logs / f'{one.name}.log'}" for one in failed]


def start_servers(root: Path, show: bool = True) -> dict[str, str]:
    """Start what does not run, and return the servers' addresses by name."""
    from pipeline.servers import servers

    missing = servers.missing(root)
    if missing:
        typer.echo(f"starting {' and '.join(missing)} ...")
    started = servers.up(root, typer.echo)
    urls = {name: service.url for name, service in started.items()} | servers.elsewhere()
    for name, url in sorted(urls.items()) if show or missing else ():
        typer.echo(f"{name:8} {environment.without_password(url)}" + ("" if name in started else " (yours)"))
    return urls


def enter_prefect(root: Path, api_url: str | None = None) -> str:
    """Set what Prefect reads when it is imported, starting its server if need be; return its API's address."""
    api_url = api_url or os.environ.get("PREFECT_API_URL") or start_servers(root, show=False)["prefect"] + "/api"
    # Prefect warns of a home of which it would have to make two levels
    environment.state_folder(root).mkdir(parents=True, exist_ok=True)
    os.environ.update(environment.prefect_settings(root, api_url))
    return api_url


def leave_if_bad(last: LastRun | None) -> None:
    """Exit with the code of a flow run that did not complete."""
    code, _ = ENDS.get(last.state, FAILED) if last else (0, None)
    if code:
        raise typer.Exit(code)
