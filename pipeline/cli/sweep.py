"""`facet run --set ... --seeds ...`: a sweep, in its own workspace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.flow.launch import run_stale
from pipeline.flow.run_options import RunOptions
from stages.core.errors import InputError, UnknownNameError
from stages.runtime import yaml_text

if TYPE_CHECKING:
    from pipeline.base.workspace import Workspace
    from pipeline.execution.history import LastRun
    from pipeline.workspaces.sweeps import Sweep

Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="runs.NAME.PATH=V,V",
        help="Vary a parameter: runs.adaface.head.margin=0.3,0.5; runs.*.PATH for every run. Repeatable.",
    ),
]  # fmt: skip
Seeds = Annotated[
    str | None, typer.Option(metavar="0..4", help="Seeds for each variant: 0..4, or 0,1,7.")
]
OfTable = Annotated[
    str | None,
    typer.Option("--columns", metavar="TABLE", help="Table whose columns to show; default: first of its runs' tables."),
]
Save = Annotated[
    str | None,
    typer.Option(metavar="TABLE", help="Add the sweep's runs to params.yaml, as a new table of this name."),
]


@dataclass(frozen=True)
class Asked:
    """The sweep options of the command line."""

    settings: Sequence[str]
    seeds: str | None
    columns: str | None
    save: str | None

    def __bool__(self) -> bool:
        return bool(self.settings or self.seeds)


def run_sweep(root: Path, targets: Sequence[str], asked: Asked, options: RunOptions) -> LastRun | None:
    """Run a sweep, print its table and its address in MLflow; return None if there was nothing to do.

    Raises:
        ValueError, LookupError: it cannot be understood, or names what is not there.
    """
    from pipeline.tables import summary
    from pipeline.workspaces import save_sweep, sweeps

    if options.pool is not None:
        raise InputError("a sweep runs locally only: save it (--save TABLE), then run `facet run TABLE --pool NAME`")
    sweep = understand(root, targets, asked)
    num_runs = sum(len(variant.runs) for variant in sweep.variants)
    typer.echo(f"{sweep.title}: {len(sweep.variants)} variants, {num_runs} training runs")
    with sweeps.opened(root, sweep) as (where, fresh):
        if not fresh:
            typer.echo("another process is running this sweep already: using the code that it started with")
        last = run_stale(where, [sweep.key], options, f"sweep {sweep.title}")
        if last is None or last.state == "COMPLETED":
            typer.echo(f"\n{summary.table(where, sweep.key, 'md')}\n")
            _say_where(where)
            if asked.save is not None:
                added = save_sweep.save(root, sweep, asked.save)
                typer.echo(f"params.yaml has {added} new runs; `facet run {asked.save}` restores their results")
    return last


def understand(root: Path, targets: Sequence[str], asked: Asked) -> Sweep:
    """Return the requested sweep; targets (names of runs or tables) restrict the runs."""
    from pipeline.workspaces import seeds
    from pipeline.workspaces import sweep_grid as sweep
    from pipeline.workspaces.sweeps import Sweep

    tree: dict[str, Any] = yaml_text.read(root / "params.yaml")
    runs = {name: tree["runs"][name] for name in (_runs_of(tree, targets) if targets else tree["runs"])}
    settings = [sweep.parse_setting(text) for text in asked.settings]
    chosen = () if asked.seeds is None else seeds.parse(asked.seeds)
    variants = sweep.variants(runs, settings, chosen, lambda run: seeds.own(root, tree, run))
    bases = list(dict.fromkeys(variant.base for variant in variants))
    table = _table(root, tree, asked.columns, bases)
    quality = {row["run"]: row["quality"] for row in (table.get("rows") or {}).values() if row.get("quality")}
    return Sweep(sweep.title(settings, chosen, bases), variants, table["columns"], quality)


def _runs_of(tree: Mapping[str, Any], targets: Sequence[str]) -> list[str]:
    rows = tree.get("rows", {}).values()
    found = []
    for target in targets:
        named = [target] if target in tree["runs"] else [row["run"] for row in rows if row["table"] == target]
        if not named:
            choice = ", ".join(sorted({*tree["runs"], *(row["table"] for row in rows)}))
            raise UnknownNameError(f"a sweep's targets are runs or tables, got {target!r}: choose from {choice}")
        found += named
    return list(dict.fromkeys(found))


def _table(root: Path, tree: Mapping[str, Any], table: str | None, bases: Sequence[str]) -> dict[str, Any]:
    """Return the table whose columns are shown: the one that is named, the first with one of the runs, or the first."""
    tables = list(tree.get("tables", {}))
    rows = tree.get("rows", {}).values()
    name = table or next((row["table"] for row in rows if row["run"] in bases), tables[0] if tables else None)
    path = root / "tables" / f"{name}.yaml"
    if name is None or not path.is_file():
        there = ", ".join(sorted(path.stem for path in (root / "tables").glob("*.yaml"))) or "none"
        raise UnknownNameError(f"--columns: no table {name!r}: there are {there}")
    found: dict[str, Any] = yaml_text.read(path)
    return found


def _say_where(where: Workspace) -> None:
    from pipeline.servers import daemons
    from pipeline.tables import summary
    from pipeline.tracking import recorded_ids

    root, page = where.project, summary.report_folder(where.folder, where.name) / "table.html"
    typer.echo(f"table   {page.relative_to(root) if page.is_relative_to(root) else page}")
    typer.echo(f"        `facet table {where.name}` prints it; --format csv, html, tex, json")
    mlflow = daemons.known(root).get(daemons.MLFLOW)
    if mlflow is not None:
        for link in recorded_ids.experiment_links(where, mlflow.url, [where.name]).values():
            typer.echo(f"MLflow  {link}")
