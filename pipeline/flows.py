"""`facet run` as a Prefect flow: each stale stage is a task run named after it; DVC decides what that means.

Prefect schedules nothing here and caches nothing: which stage may start is `schedule`'s, on which device `leases`', in
which process `execute`'s, whether it has to run at all DVC's. Prefect is where a person watches, and where one cancels.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import UUID

import httpx
from prefect import Task, flow, get_run_logger, task_engine
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException, TerminationSignal
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed, State

from pipeline import environment, leases, records, services, summary
from pipeline.execute import Executor
from pipeline.graph import RESOLVE, Graph, Stage
from pipeline.reproduce import Outcome
from pipeline.schedule import Schedule
from pipeline.summary import Ended

WATCH_S = 3.0
POLL_S = 0.5
TRACK = "track"


@dataclass
class Prepared:
    """What the caller of the flow has at hand already, so that the flow need not make it again."""

    root: Path
    executor: Executor
    graph: Graph
    track: bool = True


_prepared: ContextVar[Prepared | None] = ContextVar("prepared", default=None)


def run(prepared: Prepared, targets: Sequence[str], jobs: int) -> records.LastRun:
    """Run the flow in this process, and say how it ended."""
    name = ", ".join(targets) or "all"
    token = _prepared.set(prepared)
    try:
        state = facet_run.with_options(flow_run_name=name)(list(targets), jobs, return_state=True)
    finally:
        _prepared.reset(token)
    last = records.LastRun(
        str(state.state_details.flow_run_id or ""), name, state.type.value, state.message or ""
    )
    records.write_last_run(prepared.root, last)
    return last


@flow(name="facet run", persist_result=False, validate_parameters=False)
def facet_run(targets: list[str], jobs: int) -> State[Any]:
    """Bring ``targets`` (all, if there are none) up to date, ``jobs`` stages at a time."""
    prepared = _prepared.get() or _prepare(jobs)
    identity = UUID(flow_run.get_id())
    work = _Work(prepared, jobs)
    _tag(identity, work.labels(prepared.graph.select(targets)))
    with _CancelWatch(identity) as cancelled, _no_limits_by_tag():
        try:
            _run_everything(work, targets, cancelled)
        except (KeyboardInterrupt, TerminationSignal) as stop:
            get_run_logger().warning("stopping: stages may take a moment to keep what they have")
            work.stop()
            return _end(
                work, targets, "stopped by Ctrl-C" if isinstance(stop, KeyboardInterrupt) else "stopped"
            )
        return _end(work, targets, "cancelled" if cancelled.is_set() else None)


def _prepare(jobs: int) -> Prepared:
    """Make what a caller would have given: this flow run was started by Prefect itself."""
    root = environment.find_root()
    executor = Executor(root, jobs)
    return Prepared(root, executor, executor.read_graph())


def _run_everything(work: _Work, targets: Sequence[str], cancelled: threading.Event) -> None:
    prepared = work.prepared
    stale = prepared.graph.stale(prepared.graph.select(targets))
    resolve = [
        prepared.graph.stages[address] for address in stale if prepared.graph.stages[address].name == RESOLVE
    ]
    if resolve:
        # all depends on what it writes, section by section: only afterwards is known what is really stale
        work.drive(resolve, cancelled)
        if not work.ended[resolve[0].address].good:
            rest = [prepared.graph.stages[address] for address in stale if address != resolve[0].address]
            work.skip(rest, f"needs {RESOLVE}, which did not end well")
            return
        prepared.graph = prepared.executor.read_graph()
        stale = prepared.graph.stale(prepared.graph.select(targets))
    work.drive([prepared.graph.stages[address] for address in stale], cancelled)
    if prepared.track and not cancelled.is_set():
        work.track()


class _Work:
    """Submits stages as tasks and keeps account of how they end."""

    def __init__(self, prepared: Prepared, jobs: int) -> None:
        self.prepared, self.jobs = prepared, jobs
        self.ended: dict[str, Ended] = {}
        self.futures: dict[str, PrefectFuture[Any]] = {}
        self.pool = leases.Pool(leases.find_gpus(), jobs, environment.state_folder(prepared.root) / "leases")

    def labels(self, stages: Sequence[Stage]) -> list[str]:
        """Return the tags of ``stages``: the tables in which they have a part, the runs on which they work."""
        graph = self.prepared.graph
        tables = {f"table:{table}" for stage in stages for table in graph.tables_of(stage)}
        return sorted(tables | {f"run:{name}" for stage in stages if (name := graph.run_of(stage))})

    def drive(self, stages: Sequence[Stage], cancelled: threading.Event) -> None:
        """Run ``stages`` in dependency order, ``jobs`` at a time, until all have ended one way or another."""
        schedule = Schedule(stages, records.durations(self.prepared.root))
        ended: queue.SimpleQueue[Stage] = queue.SimpleQueue()
        while not schedule.finished:
            if cancelled.is_set():
                self.prepared.executor.stop_all()
                self.skip(schedule.abandon(), "the run was cancelled")
            self._start_ready(schedule, ended)
            try:
                stage = ended.get(timeout=POLL_S)
            except queue.Empty:
                continue
            below = schedule.finish(stage, self.ended[stage.address].good)
            self.skip(below, f"needs {stage.name}, which did not end well")

    def _start_ready(self, schedule: Schedule, ended: queue.SimpleQueue[Stage]) -> None:
        for stage in schedule.ready():
            if len(schedule.running) >= self.jobs:
                return
            lease = self.pool.try_lease(stage.needs_device)
            if lease is not None:
                schedule.start(stage)
                future = self._submit(
                    stage, self._reproduction(stage, lease), [f"device:{lease.device.name}"]
                )
                future.add_done_callback(partial(self._note_end, stage, lease, ended.put))

    def _submit(
        self, stage: Stage, body: Callable[[], State[Any]], labels: Sequence[str] = ()
    ) -> PrefectFuture[Any]:
        task: Task[[], Any] = Task(
            body,
            name=stage.name,
            task_run_name=stage.name,
            tags=[*labels, *self.labels([stage])],
            persist_result=False,
            cache_policy=NO_CACHE,
            retries=0,
        )
        # they have ended long ago; given only so that the UI draws the arrows
        above = [
            self.futures[address]
            for address in stage.upstream
            if address in self.futures and address in self.ended and self.ended[address].good
        ]
        self.futures[stage.address] = task.submit(wait_for=above)
        return self.futures[stage.address]

    def _reproduction(self, stage: Stage, lease: leases.Lease) -> Callable[[], State[Any]]:
        def reproduce() -> State[Any]:
            outcome = Outcome("failed", "it could not be started")
            try:
                outcome = self.prepared.executor.run(stage, lease, get_run_logger().info)
            finally:
                self._note(stage, outcome, lease.device.name)
            return _task_state(outcome)

        return reproduce

    def _note_end(
        self, stage: Stage, lease: leases.Lease, put: Callable[[Stage], None], future: PrefectFuture[Any]
    ) -> None:
        """Account for a task that has ended, also for one whose body Prefect never called."""
        lease.release()
        if stage.address not in self.ended:
            self._note(stage, Outcome("failed", f"Prefect did not start it: {future.state.message}"), "")
        put(stage)

    def _note(self, stage: Stage, outcome: Outcome, device: str) -> None:
        what = (outcome.state, outcome.message, outcome.command_s)
        self.ended[stage.address] = Ended(stage.name, *what, device)
        records.add_attempt(self.prepared.root, records.Attempt(stage.address, *what))

    def skip(self, stages: Sequence[Stage], reason: str) -> None:
        """Show stages that will not run."""
        for stage in stages:
            self.ended[stage.address] = Ended(stage.name, "skipped", reason)
            self._submit(stage, lambda: Cancelled(name="Skipped", message=reason))

    def stop(self) -> None:
        """End all stages and wait until they have; a second Ctrl-C kills them."""
        self.prepared.executor.stop_all()
        try:
            for future in list(self.futures.values()):
                future.wait()
        except KeyboardInterrupt:
            self.prepared.executor.close()

    def track(self) -> None:
        """Record in MLflow what is finished, unless a stage of the graph did; the run does not depend on it."""
        changed = any(one.state in ("executed", "restored") for one in self.ended.values())
        done = any(one.name == TRACK and one.good for one in self.ended.values())
        if not changed or done or not services.can_track():
            return

        def body() -> State[Any]:
            code = services.track(self.prepared.root, get_run_logger().info)
            return (
                Completed() if code == 0 else Failed(message=f"exit code {code}: `facet track` tries again")
            )

        Task(
            body, name=TRACK, task_run_name=TRACK, persist_result=False, cache_policy=NO_CACHE
        ).submit().wait()


def _task_state(outcome: Outcome) -> State[Any]:
    """Return what Prefect shows for a stage."""
    if outcome.good:
        return Completed(name={"executed": "Completed"}.get(outcome.state, outcome.state.capitalize()))
    if outcome.state == "stopped":
        return Cancelled(message=outcome.message)
    return Failed(message=outcome.message)


def _end(work: _Work, targets: Sequence[str], stopped: str | None) -> State[Any]:
    """Leave the artifacts and return the state of the flow run."""
    for future in list(work.futures.values()):
        future.wait()
    ended = list(work.ended.values())
    message = summary.sentence(ended)
    graph, root = work.prepared.graph, work.prepared.root
    tables = sorted({table for stage in graph.select(targets) for table in graph.tables_of(stage)})
    try:
        create_table_artifact(key="stages", table=summary.stage_rows(ended), description=message)
        text = summary.markdown(root, tables, services.experiment_links(root, tables))
        create_markdown_artifact(key="tables", markdown=text, description=", ".join(tables))
    except (httpx.HTTPError, PrefectException) as error:
        get_run_logger().warning("the artifacts could not be written: %s", error)
    if stopped:
        return Cancelled(message=f"{stopped}: finished work is kept, run again to go on; {message}")
    if all(one.good for one in ended):
        return Completed(message=message)
    return Failed(message=message)


def _tag(identity: UUID, labels: Sequence[str]) -> None:
    """Tag this flow run; `prefect.tags` would tag every task run with all of them."""
    with get_client(sync_client=True) as client:
        client.update_flow_run(identity, tags=labels)


@contextmanager
def _no_limits_by_tag() -> Iterator[None]:
    """Let tags be labels: else each task asks the server whether its tags name a concurrency limit.

    That took up to two seconds a task where several start at once, and made starting a stage depend on the server.
    """
    with patch.object(task_engine, "_concurrency", lambda *_, **__: nullcontext(), create=True):
        yield


class _CancelWatch:
    """Sets an event when somebody cancels this flow run in the UI: no worker is there to do it for us."""

    def __init__(self, identity: UUID) -> None:
        self.identity = identity
        self.cancelled, self.over = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self._watch, name="cancel watch", daemon=True)

    def _watch(self) -> None:
        with get_client(sync_client=True) as client:
            while not self.over.wait(WATCH_S):
                try:
                    state = client.read_flow_run(self.identity).state
                except (httpx.HTTPError, PrefectException):
                    continue  # the server is away: stages go on
                if state is not None and (state.is_cancelling() or state.is_cancelled()):
                    self.cancelled.set()
                    return

    def __enter__(self) -> threading.Event:
        self.thread.start()
        return self.cancelled

    def __exit__(self, *_: object) -> None:
        self.over.set()
