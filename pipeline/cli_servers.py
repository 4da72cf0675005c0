"""`facet up`, `facet worker`, `facet down`: the servers, and who runs stages for them."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli_base import app, enter, in_a_sentence
from pipeline.launch import enter_prefect, start_servers

STAGES = "stages"
"""The pool whose workers run stages, unless told otherwise."""

PoolName = Annotated[str, typer.Option("--pool", help="The work pool from which it takes stages.")]


@app.command(epilog="Example: facet up --cpu-workers 2")
@in_a_sentence
def up(
    cpu_workers: Annotated[
        int | None, typer.Option(min=0, help="Workers without a GPU; default: one, where there is no GPU.")
    ] = None,
    pool: PoolName = STAGES,
) -> None:
    """Start both servers, and a worker per device.

    Servers listen on loopback, unless PREFECT_API_URL and MLFLOW_TRACKING_URI name others. All outlive this
    shell; what runs already is left alone.
    """
    root = enter()
    urls = start_servers(root)
    from pipeline import workers

    api_url = enter_prefect(root, urls["prefect"] + "/api")
    workers.up(root, pool, workers.devices(cpu_workers), api_url, typer.echo)
    workers.up_for_deployments(root, api_url, typer.echo)


@app.command(epilog="Example: facet worker --device 0 --pool gpus")
@in_a_sentence
def worker(
    device: Annotated[
        str | None, typer.Option(help="A GPU (0), or a CPU slot (cpu:0); default: the only one, or cpu:0.")
    ] = None,
    pool: PoolName = STAGES,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads for a stage; default: its share.")] = None,
) -> None:
    """Run stages from a pool on one device.

    Until it is stopped. In the workspace of `facet run` they run in place; in another clone they get code from the git
    remote, and data from the DVC remote. PREFECT_API_URL says where the server is.
    """
    root = enter()
    from pipeline import workers

    post = workers.post(root, device, threads)
    enter_prefect(root)
    from pipeline import worker

    worker.serve(post, pool, lambda line: typer.echo(line))


@app.command(epilog="Example: facet down")
@in_a_sentence
def down() -> None:
    """End the servers, the workers and all their processes."""
    from pipeline import services

    ended = services.down(enter())
    typer.echo(f"ended {' and '.join(ended)}" if ended else "no server was running")
