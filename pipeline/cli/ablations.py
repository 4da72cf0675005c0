"""`facet ablations`: runs the papers' tables and compares them with the published numbers."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pipeline.base.workspace import Workspace
from pipeline.cli.app import app, enter, in_a_sentence
from pipeline.flow.launch import leave_if_bad, run_stale
from pipeline.flow.run_options import RunOptions, with_run_options
from stages.core.errors import InputError
from stages.runtime import files, yaml_text

Tables = Annotated[list[str] | None, typer.Argument(help="Names of files in tables/; default: all tables of the scale")]
Scale = Annotated[str, typer.Option(help="Scale: the name of a file in ablations/, such as demo, faces or paper.")]
Seeds = Annotated[
    list[str] | None,
    typer.Option("--seeds", metavar="0,1,2", help="Further seeds of each row: 0,1 or 0..2; TABLE=0..2: of one table."),
]
Report = Annotated[Path | None, typer.Option(help="Copy the report here when it is done: pages, text and data.")]
Show = Annotated[bool, typer.Option("--show", help="Print the runs as a params.yaml, and run nothing.")]


@app.command(epilog="Example: facet ablations qgface_ablation adaface_arcface --seeds 0,1,2")
@in_a_sentence
@with_run_options
def ablations(
    options: RunOptions,
    tables: Tables = None,
    scale: Scale = "demo",
    seeds: Seeds = None,
    report: Report = None,
    show: Show = False,
) -> None:
    """Run the papers' tables and compare them with the published numbers.

    Each row is a run of ablations/runs.yaml at the chosen scale, once per seed, in a workspace under
    .facet; params.yaml does not change. Repeating the command resumes it. The output of --show can be the project's
    own params.yaml, for `dvc repro`.
    """
    from pipeline.workspaces import ablations as ablation_workspace

    if options.pool is not None:
        raise InputError(
            "the papers' tables run on this machine only: to use a pool, replace params.yaml by the output of --show"
        )
    root = enter()
    asked = ablation_workspace.parse_seeds(root, scale, tables or [], seeds or [])
    tree = ablation_workspace.params(root, asked)
    if show:
        typer.echo(yaml_text.dump(tree, width=160), nl=False)
        return
    sizes = f"{len(asked.tables)} tables, {len(tree['rows'])} rows, {len(tree['runs'])} training runs"
    typer.echo(f"{sizes}, scale {scale}")
    with ablation_workspace.opened(root, asked, tree) as (where, fresh):
        if not fresh:
            typer.echo("another process is running these tables already: using the code that it started with")
        last = run_stale(where, [], options, f"ablations {asked.title}")
    _say_where(where, asked.tables, report)
    leave_if_bad(last)


def _say_where(where: Workspace, tables: Sequence[str], copy: Path | None) -> None:
    """Print where the reports are, and copy them if requested."""
    from pipeline.tables import provenance

    root, whole = where.project, where.folder / "results" / "report"
    for table in tables:
        page = where.folder / "results" / "tables" / table / "report" / "table.html"
        if page.is_file():
            typer.echo(f"table   {_short(root, page)}")
    if not (whole / "index.html").is_file():
        return
    typer.echo(f"report  {_short(root, whole / 'index.html')}")
    if copy is not None:
        for page in (path for path in whole.rglob("*") if path.is_file() and path.suffix not in (".csv", ".tex")):
            with files.replacing(copy / page.relative_to(whole)) as aside:
                shutil.copyfile(page, aside)
                if page.suffix == ".html" and page.parent == whole:
                    aside.write_text(provenance.add(page.read_text(encoding="utf-8"), where), encoding="utf-8")
        typer.echo(f"copied to {copy}")


def _short(root: Path, path: Path) -> Path:
    return path.relative_to(root) if path.is_relative_to(root) else path
