"""`facet run`, `facet status`: what runs, and how far it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli_base import Jobs, Targets, app, enter, in_a_sentence, num_jobs
from pipeline.cli_servers import enter_prefect
from pipeline.cli_sweep import Asked, OfTable, Save, Seeds, Set, run_sweep

if TYPE_CHECKING:
    from pipeline.execute import Executor
    from pipeline.graph import Graph, Stage
    from pipeline.records import LastRun
    from pipeline.stage_result import StageResult

COLOURS = {
    "done": typer.colors.GREEN,
    "stale": typer.colors.YELLOW,
    "running": typer.colors.BLUE,
    "failed": typer.colors.RED,
}
ENDS = {"COMPLETED": (0, typer.colors.GREEN), "CANCELLED": (130, typer.colors.YELLOW)}
FAILED = (1, typer.colors.RED)

Track = Annotated[bool, typer.Option(help="Record finished rows in MLflow at the end.")]


PerDevice = Annotated[int, typer.Option(min=1, help="Stages at a time on one GPU.")]
Retries = Annotated[
    int, typer.Option(min=0, help="Tries more for a stage that was killed, crashed, hung or exits with 75.")
]
ToPool = Annotated[
    str | None,
    typer.Option("--pool", help="Send stages that need a device to the workers of this pool, here or elsewhere."),
]
Timeout = Annotated[
    float,
    typer.Option(min=0, help="Minutes without a line or a measurement after which a stage hangs; 0: never."),
]


@dataclass(frozen=True)
class How:
    """How stages are to be run."""

    jobs: int
    per_device: int = 1
    retries: int = 2
    timeout_minutes: float = 30.0
    track: bool = True
    pool: str | None = None
    """The work pool to which stages that need a device are sent."""

    def executor(self, root: Path, slot_folder: Path | None = None) -> Executor:
        """Return what starts the stages' processes."""
        from pipeline.execute import Executor, Patience

        patience = Patience(silent_s=self.timeout_minutes * 60 or None, retries=self.retries)
        if self.pool is not None:
            enter_prefect(root)
            from pipeline.pool_executor import PoolExecutor

            return PoolExecutor(root, self.pool, self.jobs or None, patience)
        return Executor(root, self.jobs, self.per_device, patience, slot_folder)


@app.command(epilog="Example: facet run heads --jobs 2")
@in_a_sentence
def run(
    targets: Targets = None,
    jobs: Jobs = None,
    per_device: PerDevice = 1,
    retries: Retries = 2,
    timeout: Timeout = 30.0,
    track: Track = True,
    pool: ToPool = None,
    set_: Set = None,
    seeds: Seeds = None,
    columns: OfTable = None,
    save: Save = None,
) -> None:
    """Run what is stale, in parallel.

    That is what is stale of the targets and of all they need, as a Prefect flow run. With --set or --seeds it is a
    sweep instead: each combination of values is trained with each seed, measured, and shown as mean and spread;
    params.yaml stays as it is. The same sweep again goes on where it was, and costs nothing where it was done.
    """
    root = enter()
    at_once = num_jobs(jobs, per_device) if pool is None else jobs or 0
    how = How(at_once, per_device, retries, timeout, track, pool)
    sweep = Asked(set_ or [], seeds, columns, save)
    if not sweep and (columns or save):
        raise ValueError("--columns and --save belong to a sweep: say what to vary with --set or --seeds")
    last = run_sweep(root, targets or [], sweep, how) if sweep else run_stale(root, targets or [], how)
    leave_if_bad(last)


def leave_if_bad(last: LastRun | None) -> None:
    """Exit with the code of a flow run that did not complete."""
    code, _ = ENDS.get(last.state, FAILED) if last else (0, None)
    if code:
        raise typer.Exit(code)


def run_stale(root: Path, targets: list[str], how: How) -> LastRun | None:
    """Run what is stale; return how the flow run ended, or None if there was nothing to do."""
    executor = how.executor(root)
    try:
        graph = executor.read_graph()
        part = graph.select(targets)
        if graph.stale(part):
            return _flow(root, targets, how, executor, graph)
    finally:
        executor.close()
    typer.echo(f"nothing to do: {len(part)} stages are up to date")
    tell_prefect(root, root)
    return None


def tell_prefect(root: Path, folder: Path) -> None:
    """Tell Prefect how runs in ``folder`` ended of which its server may not know; most often there is none."""
    from pipeline import records

    if records.unsettled(folder):
        enter_prefect(root)
        from pipeline import settle

        settle.settle_all(folder)


def _flow(root: Path, targets: list[str], how: How, executor: Executor, graph: Graph) -> LastRun:
    # Prefect reads its settings when it is imported
    api_url = enter_prefect(root)
    from pipeline import flows

    last = flows.run(flows.Prepared(root, executor, graph, how.track), targets, executor.jobs)
    say_how_it_ended(last, api_url)
    return last


def say_how_it_ended(last: LastRun, api_url: str) -> None:
    """Print a flow run's end and where Prefect shows it."""
    from pipeline import services

    _, colour = ENDS.get(last.state, FAILED)
    typer.echo(typer.style(last.state.lower(), fg=colour) + f" - {last.message}")
    typer.echo(f"flow run {services.flow_run_url(api_url.removesuffix('/api'), last.flow_run_id)}")


@app.command(epilog="Example: facet status heads")
@in_a_sentence
def status(targets: Targets = None) -> None:
    """Show how far each stage and table is.

    A stage is done, stale (and why), running or failed.
    """
    from pipeline import records
    from pipeline.forker import Forker

    root = enter()
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


def _state(stage: Stage, reasons: tuple[str, ...], last: StageResult | None) -> tuple[str, str]:
    """Return a stage's state, and why it is not done."""
    if stage.running:
        return "running", ""
    if not reasons:
        return "done", ""
    if last is not None and last.state == "failed":
        return "failed", last.message
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    return "stale", reasons[0] + more
