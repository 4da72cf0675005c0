"""`facet run`, `facet status`: what runs, and how far it is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline import environment
from pipeline.cli_base import Jobs, Targets, app, enter, in_a_sentence, num_jobs
from pipeline.cli_servers import start_servers

if TYPE_CHECKING:
    from pipeline.execute import Executor
    from pipeline.graph import Graph, Stage
    from pipeline.records import Attempt, LastRun

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

    def executor(self, root: Path, slot_folder: Path | None = None) -> Executor:
        """Return what starts the stages' processes."""
        from pipeline.execute import Executor, Patience

        patience = Patience(silent_s=self.timeout_minutes * 60 or None, retries=self.retries)
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
) -> None:
    """Run what is stale, in parallel.

    That is what is stale of the targets and of all they need, as a Prefect flow run.
    """
    root = enter()
    how = How(num_jobs(jobs, per_device), per_device, retries, timeout, track)
    last = run_stale(root, targets or [], how)
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
    return None


def _flow(root: Path, targets: list[str], how: How, executor: Executor, graph: Graph) -> LastRun:
    # Prefect reads its settings when it is imported
    api_url = os.environ.get("PREFECT_API_URL") or start_servers(root, show=False)["prefect"] + "/api"
    os.environ.update(environment.prefect_settings(root, api_url))
    from pipeline import flows, services

    last = flows.run(flows.Prepared(root, executor, graph, how.track), targets, how.jobs)
    _, colour = ENDS.get(last.state, FAILED)
    typer.echo(typer.style(last.state.lower(), fg=colour) + f" - {last.message}")
    typer.echo(f"flow run {services.flow_run_url(api_url.removesuffix('/api'), last.flow_run_id)}")
    return last


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
