"""`facet status --watch`: shows what runs in the project, and in the workspaces beside it, until it has ended."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import typer

from pipeline.board import snapshot
from pipeline.board.lines import Lines
from pipeline.board.live import LiveBoard, is_terminal
from pipeline.board.snapshot import Snapshot
from pipeline.cli.app import enter

EVERY_S = 1.0


def watch(plain: bool) -> None:
    """Draw the boards of all runs that are at work, or print their lines; return when they have ended."""
    project = enter()
    if not snapshot.read(project):
        typer.echo("nothing is running here: `facet run` runs what is stale")
        return
    try:
        if plain or not is_terminal(sys.stdout):
            _print(project)
        else:
            with LiveBoard("status", sys.stdout) as board:
                for found in _turns(project):
                    board.show(*found)
    except KeyboardInterrupt:
        return


def _print(project: Path) -> None:
    lines: dict[str, Lines] = {}
    for found in _turns(project):
        for one in found:
            for line in lines.setdefault(one.flow_run.flow_run_id, Lines()).news(one, one.at):
                typer.echo(f"{time.strftime('%H:%M:%S')} | {line}")


def _turns(project: Path) -> Iterator[list[Snapshot]]:
    """Yield the snapshots once a second, until all runs that were seen are over."""
    known: set[str] = set()
    while True:
        found = snapshot.read(project, known)
        known |= {one.flow_run.flow_run_id for one in found}
        if found:
            yield found
        if all(one.over for one in found):
            return
        time.sleep(EVERY_S)
