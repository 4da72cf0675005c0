"""`facet up`, `facet down`: the servers."""

from __future__ import annotations

from pathlib import Path

import typer

from pipeline.cli_base import app, enter, in_a_sentence


@app.command(epilog="Example: facet up")
@in_a_sentence
def up() -> None:
    """Start the servers of Prefect and MLflow.

    They listen on loopback and outlive this shell; what runs already is left alone.
    """
    start_servers(enter())


def start_servers(root: Path, show: bool = True) -> dict[str, str]:
    """Start what does not run, and return the servers' addresses by name."""
    from pipeline import services

    missing = [name for name in services.PORTS if name not in services.known(root)]
    if missing:
        typer.echo(f"starting {' and '.join(missing)} ...")
    started = services.up(root, typer.echo)
    for service in started.values() if show or missing else ():
        typer.echo(f"{service.name:8} {service.url}")
    return {name: service.url for name, service in started.items()}


@app.command(epilog="Example: facet down")
@in_a_sentence
def down() -> None:
    """End the servers and all their processes."""
    from pipeline import services

    ended = services.down(enter())
    typer.echo(f"ended {' and '.join(ended)}" if ended else "no server was running")
