"""`facet up`, `facet worker`, `facet down`: start and stop the servers and workers."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from pipeline.cli.app import app, enter, in_a_sentence
from pipeline.flow.launch import enter_prefect, start_servers


@app.command(epilog="Example: facet up")
@in_a_sentence
def up() -> None:
    """Start both servers, and a worker for deployments.

    The deployments are those of prefect.yaml. The servers listen on loopback, unless PREFECT_API_URL and
    MLFLOW_TRACKING_URI name others. They outlive this shell; services that already run are left alone.
    """
    root = enter()
    urls = start_servers(root)
    api_url = enter_prefect(root, urls["prefect"] + "/api")
    from pipeline.flow import deployments

    deployments.up(root, api_url, typer.echo)


@app.command(epilog="Example: facet worker --pool gpus")
@in_a_sentence
def worker(
    pool: Annotated[str, typer.Option("--pool", help="Prefect work pool.")],
    limit: Annotated[
        int | None, typer.Option(min=1, help="Training runs at a time; default: one per GPU, one without a GPU.")
    ] = None,
) -> None:
    """Execute training runs of a work pool, by Prefect's worker.

    Runs until stopped. PREFECT_API_URL is the address of the server. Code comes from the git remote of this clone, and
    data from its DVC remote.
    """
    root = enter()
    enter_prefect(root)
    from pipeline.workers import prefect_worker

    number = prefect_worker.num_runs(limit)
    command = prefect_worker.command(root, pool, number)
    os.execve(sys.executable, [*prefect_worker.SERVE, *command], prefect_worker.settings(root, number))


@app.command(epilog="Example: facet down")
@in_a_sentence
def down() -> None:
    """Stop the servers, the workers and all their processes."""
    from pipeline.servers import servers

    ended = servers.down(enter())
    typer.echo(f"ended {' and '.join(ended)}" if ended else "no server was running")
