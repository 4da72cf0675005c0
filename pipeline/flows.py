"""`facet run` as a Prefect flow: each stale stage is a task run named after it; DVC decides what that means.

Prefect schedules nothing here and caches nothing: which stage may start is `schedule`'s, on which device
`leases`', in which process `execute`'s, whether it has to run at all DVC's. Prefect is where a person
watches, and where one cancels.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import replace
from typing import Any
from uuid import UUID

import httpx
from prefect import State, flow, get_run_logger
from prefect.exceptions import PrefectException
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed

from pipeline import (
    environment,
    leases,
    prefect_run,
    recording,
    records,
    services,
    settle,
    summary,
    sweep_workspace,
)
from pipeline.execute import Executor
from pipeline.flow_board import Board
from pipeline.flow_work import Prepared, Work
from pipeline.graph import RESOLVE, Graph, Stage
from pipeline.pool_executor import PoolExecutor

__all__ = ["Prepared", "facet_run", "run"]

KEPT = "finished work is kept, run again to go on"


_prepared: ContextVar[Prepared | None] = ContextVar("prepared", default=None)


def run(prepared: Prepared, targets: Sequence[str], jobs: int, name: str | None = None) -> records.LastRun:
    """Run the flow in this process, named after its targets if it has no other name, and say how it ended."""
    name = name or ", ".join(targets) or "all"
    settle.settle_all(prepared.root)
    prefect_run.be_brief_with_a_dead_server()
    token = _prepared.set(prepared)
    told = False
    try:
        state = facet_run.with_options(flow_run_name=name)(list(targets), jobs, return_state=True)
        told = True
        last = records.LastRun(str(state.state_details.flow_run_id or ""), name, state.type.value, state.message or "")
    except (httpx.HTTPError, PrefectException):
        if prepared.ended is None:
            raise
        # the work is done; only Prefect's server does not know
        ended = prepared.ended
        last = records.LastRun(ended.flow_run_id, name, ended.state, ended.message)
    finally:
        _prepared.reset(token)
    if prepared.ended is not None and told and not prepared.server_was_away:
        records.forget(prepared.root, prepared.ended)
    settle.settle_all(prepared.root)
    records.write_last_run(prepared.root, last)
    return last


def _named_after_targets() -> str:
    return ", ".join(flow_run.get_parameters().get("targets") or ()) or "all"


@flow(name="facet run", flow_run_name=_named_after_targets, persist_result=False, validate_parameters=False)
def facet_run(targets: list[str], jobs: int | None = None, pool: str | None = None) -> State[Any]:
    """Bring targets up to date.

    Args:
        targets: Stages, tables or runs; none for everything.
        jobs: Stages at a time; empty for one per GPU or core.
        pool: The work pool whose workers run what needs a device; empty for this machine.
    """
    prepared = _prepared.get()
    if prepared is None:
        return _as_deployed(targets, jobs, pool)
    return _work_on(prepared, targets, jobs or prepared.executor.jobs)


def _as_deployed(targets: Sequence[str], jobs: int | None, pool: str | None) -> State[Any]:
    """Do what `facet run` would have done before the flow began: Prefect itself started it, from a deployment."""
    root = environment.find_root()
    os.environ.update(environment.for_children())
    settle.settle_all(root)
    prefect_run.be_brief_with_a_dead_server()
    here = leases.num_jobs(jobs, environment.num_cores())
    executor = PoolExecutor(root, pool, jobs) if pool else Executor(root, here)
    with contextlib.closing(executor):
        state = _work_on(Prepared(root, executor, executor.read_graph()), targets, executor.jobs)
    name = _named_after_targets()
    records.write_last_run(root, records.LastRun(str(flow_run.get_id()), name, state.type.value, state.message or ""))
    return state


def _work_on(prepared: Prepared, targets: Sequence[str], jobs: int) -> State[Any]:
    """Run, watch for the end that somebody else wants, and say how it ended."""
    identity = UUID(flow_run.get_id())
    stop = prefect_run.Stop(identity)
    work = Work(prepared, jobs, stop)
    one = records.this_flow_run(str(identity))
    records.write_open(prepared.root, one)
    with stop.watching(), prefect_run.no_limits_by_tag(), Board(identity, work.view) as board:
        try:
            _tag(identity, work.labels(prepared.graph.select(targets)))
            _run_everything(work, targets)
            work.wait()
        except KeyboardInterrupt:
            get_run_logger().warning("killing what still runs")
            prepared.executor.close()
        state = _end(work, targets, board)
        ended = replace(one, state=state.type.value, message=state.message or "")
        records.write_open(prepared.root, ended)
        prepared.ended, prepared.server_was_away = ended, stop.server_was_away
        return state


def _tag(identity: UUID, labels: Sequence[str]) -> None:
    try:
        prefect_run.tag(identity, labels)
    except (httpx.HTTPError, PrefectException) as error:
        get_run_logger().warning("the flow run could not be tagged: %s", error)


def _run_everything(work: Work, targets: Sequence[str]) -> None:
    prepared = work.prepared
    stale = _stale(prepared.graph, targets)
    work.expect(stale)
    resolve = [stage for stage in stale if stage.name == RESOLVE]
    if resolve:
        # all depends on what it writes, section by section: only afterwards is known what is really stale
        work.drive(resolve)
        if not work.ended[resolve[0].address].good:
            rest = [stage for stage in stale if stage.name != RESOLVE]
            work.skip(rest, f"needs {RESOLVE}, which did not end well")
            return
        prepared.graph = prepared.executor.read_graph()
        stale = _stale(prepared.graph, targets)
        work.expect([*resolve, *stale])
    work.drive(stale)
    if prepared.record and not work.stop.asked:
        work.record()


def _stale(graph: Graph, targets: Sequence[str]) -> list[Stage]:
    return [graph.stages[address] for address in graph.stale(graph.select(targets))]


def _end(work: Work, targets: Sequence[str], board: Board) -> State[Any]:
    """Leave the artifacts and return the state of the flow run."""
    message = summary.sentence(work.ended.values())
    try:
        _leave_artifacts(work, targets, board)
    except (httpx.HTTPError, PrefectException) as error:
        get_run_logger().warning("the artifacts could not be written: %s", error)
    if work.stop.reason:
        return Cancelled(message=f"{work.stop.reason}: {KEPT}; {message}")
    good = all(one.good for one in work.ended.values())
    return Completed(message=message) if good else Failed(message=message)


def _leave_artifacts(work: Work, targets: Sequence[str], board: Board) -> None:
    """Leave a table of the stages, and the project's tables, both with links to MLflow."""
    graph, prepared = work.prepared.graph, work.prepared
    tables = sorted({table for stage in graph.select(targets) for table in graph.tables_of(stage)})
    mlflow = services.known(prepared.project).get(services.MLFLOW)
    if sweep_workspace.is_one(prepared.root):
        board.finish(summary.sweep(prepared.root), targets)
        return
    # a workspace of the documents' tables is called after its profile
    profile, project = (prepared.root.name if prepared.home else ""), prepared.project
    links = recording.experiment_links(project, mlflow.url, tables, profile) if mlflow else {}
    if mlflow:
        work.links = recording.run_links(project, mlflow.url, profile)
    board.finish(summary.markdown(prepared.root, tables, links), tables)
