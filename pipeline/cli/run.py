"""`facet run` and `facet status`: run stale stages, show the state of stages and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.base import workspace
from pipeline.cli.app import Targets, app, enter, in_a_sentence
from pipeline.cli.sweep import Asked, OfTable, Save, Seeds, Set, run_sweep
from pipeline.flow.launch import leave_if_bad, run_stale
from pipeline.flow.run_options import RunOptions, with_run_options
from stages.core.errors import InputError

if TYPE_CHECKING:
    from pipeline.execution.graph import Stage
    from pipeline.execution.stage_result import StageResult

COLOURS = {
    "done": typer.colors.GREEN,
    "stale": typer.colors.YELLOW,
    "running": typer.colors.BLUE,
    "failed": typer.colors.RED,
}


@app.command(epilog="Example: facet run demo --jobs 2")
@in_a_sentence
@with_run_options
def run(
    options: RunOptions,
    targets: Targets = None,
    set_: Set = None,
    seeds: Seeds = None,
    columns: OfTable = None,
    save: Save = None,
) -> None:
    """Run stale stages in parallel.

    Runs the targets and what they need, where that is stale, as a Prefect flow run. With --set or --seeds it runs a
    sweep: each combination of values is trained with each seed, evaluated, and shown as mean and spread;
    params.yaml does not change. Repeating a sweep resumes it; finished training runs are reused.
    """
    root = enter()
    sweep = Asked(set_ or [], seeds, columns, save)
    if not sweep and (columns or save):
        raise InputError("--columns and --save are for sweeps: add --set or --seeds")
    if sweep:
        last = run_sweep(root, targets or [], sweep, options)
    else:
        last = run_stale(workspace.of_project(root), targets or [], options)
    leave_if_bad(last)


@app.command(epilog="Example: facet status demo; facet status --watch")
@in_a_sentence
def status(
    targets: Targets = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show the boards of what runs here, until it ends.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="With --watch: print lines in place of the board.")] = False,
) -> None:
    """Show the state of each stage and table.

    A stage is done, stale (and why), running or failed. With --watch it shows what `facet run` shows, from another
    terminal: all runs that are at work here, those of `facet ablations` and sweeps too.
    """
    if watch:
        from pipeline.cli import watch as watching

        if targets:
            raise InputError("--watch shows all that runs here: give no targets")
        watching.watch(plain)
        return
    from pipeline.execution import history
    from pipeline.execution.fork_server import Forker

    root = enter()
    with Forker(root) as forker:
        graph = forker.start("read_graph", {}).wait()
    stale, last = graph.stale(), history.last_attempts(root)
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


def _state(stage: Stage, reasons: tuple[str, ...], last: StageResult | None) -> tuple[str, str]:
    """Return a stage's state, and the reason if it is not done."""
    if stage.running:
        return "running", ""
    if not reasons:
        return "done", ""
    if last is not None and last.state == "failed":
        return "failed", last.message
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    return "stale", reasons[0] + more
