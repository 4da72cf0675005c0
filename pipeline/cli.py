"""The command `facet`: says when things run and where to look. Every command imports only what it needs."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ParamSpec, TypeVar

import typer

from pipeline import environment

if TYPE_CHECKING:
    from pipeline.execute import Executor
    from pipeline.graph import Graph, Stage
    from pipeline.records import Attempt, LastRun

P = ParamSpec("P")
R = TypeVar("R")

app = typer.Typer(
    help="Ablations of face recognition as a graph: run it in parallel, watch it, read its tables.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

COLOURS = {
    "done": typer.colors.GREEN,
    "stale": typer.colors.YELLOW,
    "running": typer.colors.BLUE,
    "failed": typer.colors.RED,
}
ENDS = {"COMPLETED": (0, typer.colors.GREEN), "CANCELLED": (130, typer.colors.YELLOW)}
FAILED = (1, typer.colors.RED)

Targets = Annotated[
    list[str] | None,
    typer.Argument(help="Stages (train_backbone@adaface, or evaluate_hq: all of them); tables; default: all"),
]
Jobs = Annotated[
    int | None, typer.Option("--jobs", "-j", min=1, help="Stages at a time; default: one per GPU or core")
]
Track = Annotated[bool, typer.Option(help="Record finished rows in MLflow at the end.")]


class Format(StrEnum):
    """Formats of a table."""

    md = "md"
    csv = "csv"
    html = "html"
    tex = "tex"


def _in_a_sentence(command: Callable[P, R]) -> Callable[P, R]:
    """Make a command fail with one sentence, where it knows what went wrong."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except typer.Exit:  # a RuntimeError
            raise
        except (ValueError, LookupError, OSError, RuntimeError) as error:
            if os.environ.get("FACET_DEBUG"):
                raise
            # str() of a KeyError is the repr of its message
            message = error.args[0] if isinstance(error, KeyError) and error.args else error
            typer.echo(f"error: {message}", err=True)
            raise typer.Exit(2) from error

    return wrapped


def _enter() -> Path:
    """Go to the project's root and return it."""
    root = environment.find_root()
    os.chdir(root)
    os.environ.update(environment.for_children())
    return root


def _num_jobs(asked: int | None) -> int:
    from pipeline import leases

    return asked or len(leases.find_gpus()) or environment.num_cores()


@app.command(epilog="Example: facet up")
@_in_a_sentence
def up() -> None:
    """Start the servers of Prefect and MLflow.

    They listen on loopback and outlive this shell; what runs already is left alone.
    """
    _up(_enter())


def _up(root: Path, show: bool = True) -> dict[str, str]:
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
@_in_a_sentence
def down() -> None:
    """End the servers and all their processes."""
    from pipeline import services

    ended = services.down(_enter())
    typer.echo(f"ended {' and '.join(ended)}" if ended else "no server was running")


@app.command(epilog="Example: facet run heads --jobs 2")
@_in_a_sentence
def run(targets: Targets = None, jobs: Jobs = None, track: Track = True) -> None:
    """Run what is stale, in parallel.

    That is what is stale of the targets and of all they need, as a Prefect flow run.
    """
    root = _enter()
    last = _run(root, targets or [], _num_jobs(jobs), track)
    _leave_if_bad(last)


def _leave_if_bad(last: LastRun | None) -> None:
    code, _ = ENDS.get(last.state, FAILED) if last else (0, None)
    if code:
        raise typer.Exit(code)


def _run(root: Path, targets: list[str], jobs: int, track: bool) -> LastRun | None:
    """Run what is stale; return how the flow run ended, or None if there was nothing to do."""
    from pipeline.execute import Executor

    executor = Executor(root, jobs)
    try:
        graph = executor.read_graph()
        part = graph.select(targets)
        if graph.stale(part):
            return _flow(root, targets, jobs, executor, graph, track)
    finally:
        executor.close()
    typer.echo(f"nothing to do: {len(part)} stages are up to date")
    return None


def _flow(
    root: Path, targets: list[str], jobs: int, executor: Executor, graph: Graph, track: bool
) -> LastRun:
    # Prefect reads its settings when it is imported
    api_url = os.environ.get("PREFECT_API_URL") or _up(root, show=False)["prefect"] + "/api"
    os.environ.update(environment.prefect_settings(root, api_url))
    from pipeline import flows, services

    last = flows.run(flows.Prepared(root, executor, graph, track), targets, jobs)
    _, colour = ENDS.get(last.state, FAILED)
    typer.echo(typer.style(last.state.lower(), fg=colour) + f" - {last.message}")
    typer.echo(f"flow run {services.flow_run_url(api_url.removesuffix('/api'), last.flow_run_id)}")
    return last


@app.command(epilog="Example: facet status heads")
@_in_a_sentence
def status(targets: Targets = None) -> None:
    """Show how far each stage and table is.

    A stage is done, stale (and why), running or failed.
    """
    from pipeline import records
    from pipeline.forker import Forker

    root = _enter()
    with Forker(root) as forker:
        graph = forker.start("read_graph", {}).wait()
    stale, last = graph.stale(), records.last_attempts(root)
    states = {
        stage.address: _state(stage, stale.get(stage.address, ()), last.get(stage.address))
        for stage in graph.select(targets or [])
    }
    width = max((len(graph.stages[address].name) for address in states), default=0)
    for address, (state, why) in states.items():
        shown = typer.style(f"{state:7}", fg=COLOURS[state])
        typer.echo(f"{graph.stages[address].name:{width}}  {shown}  {why}".rstrip())
    for name in graph.tables:
        part = [states[stage.address][0] for stage in graph.select([name]) if stage.address in states]
        counts = [f"{part.count(state)} {state}" for state in COLOURS if state in part]
        if part:
            typer.echo(f"table {name}: {', '.join(counts)}, of {len(part)} stages")


def _state(stage: Stage, reasons: tuple[str, ...], last: Attempt | None) -> tuple[str, str]:
    """Return a stage's state, and why it is not done."""
    if stage.running:
        return "running", ""
    if not reasons:
        return "done", ""
    if last is not None and last.state == "failed":
        return "failed", last.message
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    return "stale", reasons[0] + more


@app.command(epilog="Example: facet table heads --format csv > heads.csv")
@_in_a_sentence
def table(
    name: Annotated[str, typer.Argument(help="A table: the name of a file in tables/.")],
    format_: Annotated[Format, typer.Option("--format", help="How to print it.")] = Format.md,
) -> None:
    """Print a table, measured beside published."""
    from pipeline import summary

    typer.echo(summary.table(_enter(), name, format_.value))


@app.command(epilog="Example: facet track")
@_in_a_sentence
def track() -> None:
    """Record in MLflow what is finished.

    What is there already stays as it is; a lost or empty database is filled again.
    """
    from pipeline import recording

    if code := recording.track(_enter(), typer.echo):
        raise typer.Exit(code)


@app.command(epilog="Example: facet demo --jobs 2")
@_in_a_sentence
def demo(jobs: Jobs = None) -> None:
    """Run everything and show where to look.

    Starts the servers, runs what is stale, prints the tables; a second time reruns nothing.
    """
    from pipeline import recording

    root = _enter()
    _check_tools(root)
    urls = _up(root)
    last = _run(root, [], _num_jobs(jobs), track=True)
    _leave_if_bad(last)
    if last is None:
        # rebuilds the records if somebody deleted them
        recording.track(root, typer.echo)
    _show(root, urls)


def _check_tools(root: Path) -> None:
    """Refuse to begin what cannot end well.

    Raises:
        RuntimeError: git is missing, or the project is no git checkout.
    """
    if shutil.which("git") is None:
        raise RuntimeError("git is not installed: DVC keeps the results of this project beside it")
    if not (root / ".git").exists():
        raise RuntimeError(f"{root} is no git checkout: clone the project, or run `git init` in it")


def _show(root: Path, urls: dict[str, str]) -> None:
    """Print the tables and where to look."""
    from pipeline import recording, records, services, summary

    reports = sorted((root / "results" / "tables").glob("*/report/table.md"))
    tables = [path.parent.parent.name for path in reports]
    for path in reports:
        typer.echo(f"\n{path.read_text(encoding='utf-8').strip()}\n")
    last = records.last_run(root)
    prefect = urls[services.PREFECT]
    typer.echo(f"Prefect  {services.flow_run_url(prefect, last.flow_run_id) if last else prefect}")
    links = recording.experiment_links(root, urls[services.MLFLOW], tables)
    for link in links.values() or [urls[services.MLFLOW]]:
        typer.echo(f"MLflow   {link}")
    for name in tables:
        typer.echo(f"report   {summary.report_folder(root, name).relative_to(root) / 'table.html'}")
    typer.echo("`facet down` ends the servers")


if __name__ == "__main__":
    app()
