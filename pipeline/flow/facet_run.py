"""`facet run` as a Prefect flow: each stale stage is a task run named after it; DVC decides what is stale.

Prefect neither schedules nor caches here. `execution/schedule.py` decides which stage may start, `devices/leases.py` on
which device, `execution/executor.py` runs it, and DVC decides whether it has to run at all. Prefect shows the run and
can cancel it.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any
from uuid import UUID

from prefect import State, flow, get_run_logger
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed

from pipeline.base import environment
from pipeline.base import workspace as workspaces
from pipeline.base.workspace import Workspace
from pipeline.board.snapshot import Snapshot
from pipeline.execution import history
from pipeline.execution.executor import Executor
from pipeline.execution.graph import RESOLVE, Graph, Stage
from pipeline.flow import display, prefect_patches, reconcile
from pipeline.flow.display import Show
from pipeline.flow.progress import Publisher
from pipeline.flow.progress_artifacts import ProgressArtifacts
from pipeline.flow.run_options import Prepared, RunOptions
from pipeline.flow.stage_tasks import Work
from pipeline.servers import flow_run_requests, servers
from pipeline.tables import summary
from pipeline.tracking import recorded_ids
from pipeline.workspaces import snapshot

NAME = "facet run"
KEPT = "finished work is kept, run again to resume"
OPTIONS: dict[str, Any] = {"persist_result": False, "validate_parameters": False}
"""Of a flow of ours."""


def run(
    where: Workspace, targets: Sequence[str], options: RunOptions, prepared: Prepared, title: str | None = None
) -> history.LastRun:
    """Run the flow in this process, named after its targets if it has no title, and return how it ended."""
    name = title or ", ".join(targets) or "all"

    prefect_patches.install()
    ended = None
    arguments = asdict(options)
    plain = arguments.pop("plain")
    try:
        with display.board(name, plain) as show:

            @flow(name=NAME, flow_run_name=name, **OPTIONS)
            @functools.wraps(facet_run.fn)
            def prepared_run(*_: Any, **__: Any) -> State[Any]:
                return _bring_up_to_date(where, targets, options, prepared, show)

            state = prepared_run(list(targets), workspace=where.text, **arguments, return_state=True)
        last = history.LastRun(str(state.state_details.flow_run_id or ""), name, state.type.value, state.message or "")
        ended = history.ended_here(where.folder)
        prefect_patches.send_what_waits(last.flow_run_id)
    except flow_run_requests.AWAY:
        # the work is done; only Prefect's server does not know
        missed = history.ended_here(where.folder)
        if missed is None:
            raise
        last = history.LastRun(missed.flow_run_id, name, missed.state, missed.message)
    if ended is not None and not ended.missed:
        history.forget(where.folder, ended)
    reconcile.settle_all(where.folder)
    return last


def _named_after_targets() -> str:
    return ", ".join(flow_run.get_parameters().get("targets") or ()) or "all"


@flow(name=NAME, flow_run_name=_named_after_targets, **OPTIONS)
def facet_run(
    targets: list[str],
    jobs: int | None = None,
    pool: str | None = None,
    per_device: int = 1,
    retries: int = 2,
    timeout_minutes: float = 30.0,
    track: bool = True,
    workspace: str = "",
) -> State[Any]:
    """Bring targets up to date.

    Args:
        targets: Stages, tables or runs; none for everything.
        jobs: Stages at a time; empty for one per GPU or core.
        pool: The work pool whose workers run the training runs; empty for this machine.
        per_device: Stages at a time on one GPU.
        retries: Extra attempts for a stage that was killed, crashed, hung or exited with 75.
        timeout_minutes: Without output for so long a stage counts as hung; 0 for never.
        track: Record finished rows in MLflow at the end.
        workspace: KIND/NAME of a workspace beside the project, as ablations/demo; empty for the project itself.
    """
    root = environment.find_root()
    # from a deployment it is Prefect that started this process
    environment.enter(root)
    prefect_patches.install()
    options = RunOptions(jobs, per_device, retries, timeout_minutes, track, pool)
    return _bring_up_to_date(workspaces.parse(root, workspace), targets, options)


def _bring_up_to_date(
    where: Workspace,
    targets: Sequence[str],
    options: RunOptions,
    prepared: Prepared | None = None,
    show: Show = display.nowhere,
) -> State[Any]:
    reconcile.settle_all(where.folder)
    forker, graph = (prepared.forker, prepared.graph) if prepared else (None, None)
    with display.brief(), snapshot.kept(where), contextlib.closing(options.executor(where, forker)) as executor:
        state = work_on(where, executor, graph, targets, options.track, show)
    last = history.LastRun(str(flow_run.get_id()), flow_run.get_name() or "", state.type.value, state.message or "")
    history.write_last_run(where.folder, last)
    return state


def work_on(
    where: Workspace,
    executor: Executor,
    graph: Graph | None,
    targets: Sequence[str],
    track: bool,
    show: Show = display.nowhere,
) -> State[Any]:
    """Run what is stale in this flow run, watch for requests to stop, and return how the run ended."""
    identity = UUID(flow_run.get_id())
    stop = flow_run_requests.Stop(identity)
    one = history.this_flow_run(str(identity))
    history.write_open(where.folder, one)
    work = Work(where, executor, stop, _snapshot(where, one))
    with (
        prefect_patches.no_limits_by_tag(),
        prefect_patches.task_lines_on_their_tasks(),
        stop.watching(),
        Publisher(where, work.look, show),
        ProgressArtifacts(identity, work.look, lambda: work.links) as artifacts,
    ):
        try:
            work.take(graph or executor.read_graph())
            _tag(identity, work.labels(work.graph.select(targets)))
            _run_everything(work, targets, track)
            work.wait()
        except KeyboardInterrupt:
            get_run_logger().warning("killing the processes that still run")
            executor.close()
        state = _end(work, targets, artifacts)
        ended = replace(one, state=state.type.value, message=state.message or "", missed=stop.server_was_away)
        history.write_open(where.folder, ended)
        work.snapshot = replace(work.snapshot, flow_run=ended)
        return state


def _snapshot(where: Workspace, one: history.FlowRun) -> Snapshot:
    """Return what is known of this flow run before its stages are."""
    prefect = servers.known(where.project).get(servers.PREFECT)
    url = servers.flow_run_url(prefect.url, one.flow_run_id) if prefect else ""
    logs = str(environment.log_folder(where.folder))
    return Snapshot(flow_run.get_name() or "", one, time.time(), url=url, logs=logs)


def _tag(identity: UUID, labels: Sequence[str]) -> None:
    try:
        flow_run_requests.tag(identity, labels)
    except flow_run_requests.AWAY as error:
        get_run_logger().warning("the flow run could not be tagged: %s", error)


def _run_everything(work: Work, targets: Sequence[str], track: bool) -> None:
    stale = _stale(work.graph, targets)
    work.expect(stale)
    resolve = [stage for stage in stale if stage.name == RESOLVE]
    if resolve:
        # all depends on what it writes, section by section: only afterwards is known what is really stale
        work.drive(resolve)
        if not work.ended[resolve[0].address].good:
            rest = [stage for stage in stale if stage.name != RESOLVE]
            work.skip(rest, f"needs {RESOLVE}, which did not complete")
            return
        work.take(work.executor.read_graph())
        stale = _stale(work.graph, targets)
        work.expect([*resolve, *stale])
    work.drive(stale)
    if track and not work.stop.asked:
        work.record()


def _stale(graph: Graph, targets: Sequence[str]) -> list[Stage]:
    return [graph.stages[address] for address in graph.stale(graph.select(targets))]


def _end(work: Work, targets: Sequence[str], artifacts: ProgressArtifacts) -> State[Any]:
    """Write the artifacts and return the state of the flow run."""
    message = summary.sentence(work.ended.values())
    try:
        _leave_artifacts(work, targets, artifacts)
    except flow_run_requests.AWAY as error:
        get_run_logger().warning("the artifacts could not be written: %s", error)
    if work.stop.reason:
        return Cancelled(message=f"{work.stop.reason}: {KEPT}; {message}")
    good = all(one.good for one in work.ended.values())
    return Completed(message=message) if good else Failed(message=message)


def _leave_artifacts(work: Work, targets: Sequence[str], artifacts: ProgressArtifacts) -> None:
    """Write a table of the stages and the project's tables as artifacts, with links to MLflow."""
    graph, where = work.graph, work.where
    tables = sorted({table for stage in graph.select(targets) for table in graph.tables_of(stage)})
    mlflow = servers.known(where.project).get(servers.MLFLOW)
    links = recorded_ids.experiment_links(where, mlflow.url, tables) if mlflow else {}
    if mlflow:
        work.links = recorded_ids.run_links(where, mlflow.url)
    artifacts.finish(summary.markdown(where.folder, tables, links), tables)
