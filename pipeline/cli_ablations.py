"""`facet ablations`: the tables of the documents, each row a real run, measured beside published."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli_base import Jobs, app, enter, in_a_sentence, num_jobs
from pipeline.cli_run import How, PerDevice, Retries, Timeout, Track, leave_if_bad

if TYPE_CHECKING:
    from pipeline.ablation_workspace import Ablations
    from pipeline.records import LastRun

Tables = Annotated[list[str] | None, typer.Argument(help="Tables: names of files in tables/; default: the profile's")]
Profile = Annotated[str, typer.Option(help="The scale: a file in ablations/, as demo, faces or paper.")]
Seeds = Annotated[
    list[str] | None,
    typer.Option("--seeds", metavar="0,1,2", help="Train each row with these: 0..2; TABLE=0..2 for one table alone."),
]
Report = Annotated[Path | None, typer.Option(help="Copy the report here when it is done.")]
Show = Annotated[bool, typer.Option("--show", help="Print what would be run, as a params.yaml, and run nothing.")]


@app.command(epilog="Example: facet ablations qgface_ablation adaface_arcface --seeds 0,1,2")
@in_a_sentence
def ablations(
    tables: Tables = None,
    profile: Profile = "demo",
    seeds: Seeds = None,
    jobs: Jobs = None,
    per_device: PerDevice = 1,
    retries: Retries = 2,
    timeout: Timeout = 30.0,
    track: Track = True,
    report: Report = None,
    show: Show = False,
) -> None:
    """Run the tables of the documents, measured beside published.

    Each row is a run of ablations/runs.yaml at the scale of a profile, once for each seed, in a workspace under
    .facet; params.yaml stays as it is. The same again goes on where it was. What --show prints may become the project's
    own params.yaml, for `dvc repro`.
    """
    import yaml

    from pipeline import ablation_workspace

    root = enter()
    asked = ablation_workspace.parse_seeds(root, profile, tables or [], seeds or [])
    tree = ablation_workspace.params(root, asked)
    if show:
        typer.echo(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=160), nl=False)
        return
    sizes = f"{len(asked.tables)} tables, {len(tree['rows'])} rows, {len(tree['runs'])} trainings"
    typer.echo(f"{sizes}, profile {profile}")
    how = How(num_jobs(jobs, per_device), per_device, retries, timeout, track)
    last = run_tables(root, asked, how)
    _say_where(root, profile, asked.tables, report)
    leave_if_bad(last)


def run_tables(root: Path, asked: Ablations, how: How) -> LastRun | None:
    """Run what is stale in the workspace; return how the flow run ended, or None if there was nothing to do."""
    from pipeline import ablation_workspace, cli_workspace

    with (
        cli_workspace.refusing_other_work(),
        ablation_workspace.opened(root, asked) as (workspace, fresh),
    ):
        if not fresh:
            typer.echo("these tables run in another process already: working with what that began with")
        return cli_workspace.run_in(root, workspace, [], f"ablations {asked.title}", how)


def _say_where(root: Path, profile: str, tables: Sequence[str], copy: Path | None) -> None:
    """Print where the reports are; copy them where somebody wants them."""
    from pipeline import ablation_workspace, provenance

    workspace = ablation_workspace.folder(root, profile)
    whole = workspace / "results" / "report"
    for table in tables:
        page = workspace / "results" / "tables" / table / "report" / "table.html"
        if page.is_file():
            typer.echo(f"table   {_short(root, page)}")
    if not (whole / "index.html").is_file():
        return
    typer.echo(f"report  {_short(root, whole / 'index.html')}")
    if copy is not None:
        shutil.copytree(whole, copy, dirs_exist_ok=True)
        for page in copy.glob("*.html"):
            page.write_text(provenance.add(page.read_text(encoding="utf-8"), root, profile), encoding="utf-8")
        typer.echo(f"copied to {copy}")


def _short(root: Path, path: Path) -> Path:
    return path.relative_to(root) if path.is_relative_to(root) else path
