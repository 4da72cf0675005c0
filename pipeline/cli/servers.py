"""`facet up`, `facet worker`, `facet down`: start and stop the servers and workers."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.app import app, enter, in_a_sentence
from pipeline.flow.launch import enter_prefect, start_servers

STAGES = "stages"
"""The default work pool whose workers run stages."""

PoolName = Annotated[str, typer.Option("--pool", help="Prefect work pool from which workers take stages.")]


@app.command(epilog="Example: facet up --cpu-workers 2")
@in_a_sentence
def up(
    cpu_workers: Annotated[
        int | None, typer.Option(min=0, help="Number of CPU workers; default: one if there is no GPU.")
    ] = None,
    pool: PoolName = STAGES,
) -> None:
    """Start both servers, and one worker per device.

    The servers listen on loopback, unless PREFECT_API_URL and MLFLOW_TRACKING_URI name others. They outlive this
    shell; services that already run are left alone.
    """
    root = enter()
    urls = start_servers(root)
    from pipeline.flow import deployments
    from pipeline.workers import worker_setup

    api_url = enter_prefect(root, urls["prefect"] + "/api")
    worker_setup.up(root, pool, worker_setup.devices(cpu_workers), api_url, typer.echo)
    deployments.up(root, api_url, typer.echo)


@app.command(epilog="Example: facet worker --device 0 --pool gpus")
@in_a_sentence
def worker(
    device: Annotated[
        str | None, typer.Option(help="GPU (0) or CPU slot (cpu:0); default: the only GPU, or cpu:0.")
    ] = None,
    pool: PoolName = STAGES,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads per stage; default: its share.")] = None,
) -> None:
    """Run stages from a pool on one device.

    Runs until stopped. In the workspace of `facet run` stages run in place; in another clone they get code from the git
    remote, and data from the DVC remote. PREFECT_API_URL is the address of the server.
    """
    root = enter()
    from pipeline.workers import worker_setup

    post = worker_setup.post(root, device, threads)
    enter_prefect(root)
    from pipeline.workers import worker

    worker.serve(post, pool, lambda line: typer.echo(line))


@app.command(epilog="Example: facet down")
@in_a_sentence
def down() -> None:
    """Stop the servers, the workers and all their processes."""
    from pipeline.servers import servers

    ended = servers.down(enter())
    typer.echo(f"ended {' and '.join(ended)}" if ended else "no server was running")
