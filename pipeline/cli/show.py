"""`facet table`, `facet show`, `facet track`, `facet demo`: print and record results."""

from __future__ import annotations

import shutil
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.app import app, enter, in_a_sentence
from pipeline.flow.launch import leave_if_bad, run_stale, start_servers
from pipeline.flow.run_options import RunOptions, with_run_options
from stages.core.errors import InputError, OperationError


class Format(StrEnum):
    """Output formats of a table."""

    md = "md"
    csv = "csv"
    html = "html"
    tex = "tex"
    json = "json"


@app.command(epilog="Example: facet table demo --format csv > demo.csv; facet table --all --format html > all.html")
@in_a_sentence
def table(
    name: Annotated[str | None, typer.Argument(help="Name of a file in tables/.")] = None,
    format_: Annotated[Format, typer.Option("--format", help="Output format.")] = Format.md,
    every: Annotated[bool, typer.Option("--all", help="Print all tables, with the agreement of each.")] = False,
    scale: Annotated[str, typer.Option(help="Scale of `facet ablations`; default: the project's tables.")] = "",
    diff: Annotated[
        str | None, typer.Option(metavar="REV", help="Compare with commit REV; A..B: compare commit A with commit B.")
    ] = None,
) -> None:
    """Print a table with measured and published numbers."""
    from pipeline.base import workspace
    from pipeline.tables import diff as table_diff
    from pipeline.tables import provenance, summary

    root = enter()
    if every == (name is not None) or (every and diff is not None):
        raise InputError("give one table, as in `facet table demo`, or --all without --diff")
    if scale:
        where = workspace.beside(root, "ablations", scale)
    else:
        where = summary.workspace_with(root, f"results/tables/{name}/report" if name else "results/report")
        if where.kind == "ablations":
            typer.echo(f"of facet ablations, scale {where.name}", err=True)
    if name is None:
        shown = summary.tables(where, format_.value)
    elif diff is None:
        shown = summary.table(where, name, format_.value)
    elif format_ in (Format.md, Format.csv):
        sides = table_diff.read(where, name, diff)
        shown = table_diff.markdown(sides) if format_ == Format.md else table_diff.as_csv(sides)
    else:
        raise InputError(f"--diff is printed as md or csv, not as {format_.value}")
    typer.echo(provenance.add(shown, where) if format_ == Format.html else shown)


@app.command(epilog="Example: facet show adaface --sets lfw,cfp_fp")
@in_a_sentence
def show(
    run: Annotated[str, typer.Argument(help="A training run that is finished.")],
    sets: Annotated[str, typer.Option(help="Verification sets whose worst pairs are shown; default: all.")] = "",
    no_pairs: Annotated[bool, typer.Option("--no-pairs", help="Leave the pairs out: no image is read.")] = False,
    scale: Annotated[str, typer.Option(help="Scale of `facet ablations`; default: the project's runs.")] = "",
) -> None:
    """Write a page of a single run: results, worst pairs, curves, configuration, environment, how to reproduce it.

    The page is results/RUN/page/index.html and needs no other file. If MLflow has the run, it gets the page too.
    """
    from pipeline.base import workspace
    from pipeline.tables import run_page

    root = enter()
    where = workspace.beside(root, "ablations", scale) if scale else workspace.of_project(root)
    typer.echo(f"page     {run_page.write(where, run, _progress, sets=sets, pairs=not no_pairs)}")
    if link := run_page.attach(where, run):
        typer.echo(f"MLflow   {link}")


def _progress(line: str) -> None:
    typer.echo(line, err=True)


@app.command(epilog="Example: facet track")
@in_a_sentence
def track() -> None:
    """Record finished results in MLflow.

    Existing records stay as they are; a lost or empty database is filled again.
    """
    from pipeline.base import workspace
    from pipeline.tracking import subprocess_client

    if code := subprocess_client.track(workspace.of_project(enter()), typer.echo):
        raise typer.Exit(code)


@app.command(epilog="Example: facet demo --jobs 2")
@in_a_sentence
@with_run_options
def demo(options: RunOptions) -> None:
    """Run everything and print where to find the results.

    Starts the servers, runs stale stages and prints the tables. A second call reruns nothing.
    """
    from pipeline.base import workspace
    from pipeline.tracking import subprocess_client

    root = enter()
    _check_tools(root)
    urls = start_servers(root)
    where = workspace.of_project(root)
    last = run_stale(where, [], options)
    leave_if_bad(last)
    if last is None:
        # rebuilds the records if somebody deleted them
        subprocess_client.track(where, typer.echo)
    _show(root, urls)


def _check_tools(root: Path) -> None:
    """Refuse to start if a required tool is missing.

    Raises:
        RuntimeError: git is missing, or the project is no git checkout.
    """
    if shutil.which("git") is None:
        raise OperationError("git is not installed, but DVC needs it for this project: install git")
    if not (root / ".git").exists():
        raise OperationError(f"{root} is not a git checkout: clone the project, or run `git init` in it")


def _show(root: Path, urls: dict[str, str]) -> None:
    """Print the tables and where to find the results."""
    from pipeline.base import workspace
    from pipeline.execution import history
    from pipeline.servers import servers
    from pipeline.tables import summary
    from pipeline.tracking import recorded_ids

    reports = sorted((root / "results" / "tables").glob("*/report/table.md"))
    tables = [path.parent.parent.name for path in reports]
    for path in reports:
        typer.echo(f"\n{path.read_text(encoding='utf-8').strip()}\n")
    last = history.last_run(root)
    prefect = urls[servers.PREFECT]
    typer.echo(f"Prefect  {servers.flow_run_url(prefect, last.flow_run_id) if last else prefect}")
    links = recorded_ids.experiment_links(workspace.of_project(root), urls[servers.MLFLOW], tables)
    for link in links.values() or [urls[servers.MLFLOW]]:
        typer.echo(f"MLflow   {link}")
    for name in tables:
        typer.echo(f"report   {summary.report_folder(root, name).relative_to(root) / 'table.html'}")
    typer.echo("`facet down` stops the servers")
