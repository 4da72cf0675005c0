"""`facet run` as a Prefect flow: each stale stage is a task run named after it; DVC decides what that means.

Prefect schedules nothing here and caches nothing: which stage may start is `schedule`'s, on which device
`leases`', in which process `execute`'s, whether it has to run at all DVC's. Prefect is where a person
watches, and where one cancels.
"""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect import State, Task, flow, get_run_logger
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import PrefectException
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed

from pipeline import environment, leases, prefect_run, recording, records, services, summary
from pipeline.execute import Executor
from pipeline.flow_board import Board
from pipeline.graph import RESOLVE, Graph, Stage, num_gpus
from pipeline.reproduce import Outcome
from pipeline.schedule import Schedule
from pipeline.summary import Ended, View

POLL_S = 0.5
TRACK = "track"
KEPT = "finished work is kept, run again to go on"


@dataclass
class Prepared:
    """What the caller of the flow has at hand already, so that the flow need not make it again."""

    root: Path
    executor: Executor
    graph: Graph
    record: bool = True
    """Record in MLflow at the end."""
    home: Path | None = None
    """The project whose sweep this is: servers and records are its."""

    @property
    def project(self) -> Path:
        """Where servers and records are."""
        return self.home or self.root


_prepared: ContextVar[Prepared | None] = ContextVar("prepared", default=None)


def run(prepared: Prepared, targets: Sequence[str], jobs: int, name: str | None = None) -> records.LastRun:
    """Run the flow in this process, named after its targets if it has no other name, and say how it ended."""
    name = name or ", ".join(targets) or "all"
    token = _prepared.set(prepared)
    try:
        state = facet_run.with_options(flow_run_name=name)(list(targets), jobs, return_state=True)
    finally:
        _prepared.reset(token)
    identity = str(state.state_details.flow_run_id or "")
    last = records.LastRun(identity, name, state.type.value, state.message or "")
    records.write_last_run(prepared.root, last)
    return last


@flow(name="facet run", persist_result=False, validate_parameters=False)
def facet_run(targets: list[str], jobs: int) -> State[Any]:
    """Bring ``targets`` (all, if there are none) up to date, ``jobs`` stages at a time."""
    prepared = _prepared.get()
    if prepared is None:
        # started by Prefect itself, from a deployment: make what a caller would have given
        root = environment.find_root()
        with contextlib.closing(Executor(root, jobs)) as executor:
            return _work_on(Prepared(root, executor, executor.read_graph()), targets, jobs)
    return _work_on(prepared, targets, jobs)


def _work_on(prepared: Prepared, targets: Sequence[str], jobs: int) -> State[Any]:
    """Run, watch for the end that somebody else wants, and say how it ended."""
    identity = UUID(flow_run.get_id())
    stop = prefect_run.Stop(identity)
    work = _Work(prepared, jobs, stop)
    with stop.watching(), prefect_run.no_limits_by_tag(), Board(identity, work.view) as board:
        try:
            _tag(identity, work.labels(prepared.graph.select(targets)))
            _run_everything(work, targets)
            work.wait()
        except KeyboardInterrupt:
            get_run_logger().warning("killing what still runs")
            prepared.executor.close()
        return _end(work, targets, board)


def _tag(identity: UUID, labels: Sequence[str]) -> None:
    try:
        prefect_run.tag(identity, labels)
    except (httpx.HTTPError, PrefectException) as error:
        get_run_logger().warning("the flow run could not be tagged: %s", error)


def _run_everything(work: _Work, targets: Sequence[str]) -> None:
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


class _Work:
    """Submits stages as tasks and keeps account of how they end."""

    def __init__(self, prepared: Prepared, jobs: int, stop: prefect_run.Stop) -> None:
        self.prepared, self.jobs, self.stop = prepared, jobs, stop
        self.expected: dict[str, Stage] = {}
        self.running: dict[str, summary.Running] = {}
        self.links: dict[str, str] = {}
        self.ended: dict[str, Ended] = {}
        self.seconds = records.durations(prepared.root)
        self.futures: dict[str, PrefectFuture[Any]] = {}
        self.pool = prepared.executor.devices()

    def labels(self, stages: Iterable[Stage]) -> list[str]:
        """Return the tags of ``stages``: the tables they have a part in, the runs they work on."""
        graph = self.prepared.graph
        found = set()
        for stage in stages:
            found |= {f"table:{table}" for table in graph.tables_of(stage)}
            if name := graph.run_of(stage):
                found.add(f"run:{name}")
        return sorted(found)

    def expect(self, stages: Sequence[Stage]) -> None:
        """Note what is to be done, for those who watch."""
        self.expected = {stage.address: stage for stage in stages}

    def view(self) -> View:
        """Return what there is to see now; called from another thread."""
        return summary.view(self.expected, dict(self.running), dict(self.ended), self.seconds, self.links)

    def drive(self, stages: Sequence[Stage]) -> None:
        """Run ``stages`` in dependency order, ``jobs`` at a time, until all have ended one way or another."""
        schedule = Schedule(stages, self.seconds)
        ended: queue.SimpleQueue[Stage] = queue.SimpleQueue()
        warned = False
        while not schedule.finished:
            if self.stop.asked:
                if not warned:
                    get_run_logger().warning("stopping: stages may take a moment to keep what they have")
                    warned = True
                self.prepared.executor.stop_all()
                self.skip(schedule.abandon(), f"the run was {self.stop.reason}")
            self._start_ready(schedule, ended.put)
            try:
                stage = ended.get(timeout=POLL_S)
            except queue.Empty:
                continue
            below = schedule.finish(stage, self.ended[stage.address].good)
            self.skip(below, f"needs {stage.name}, which did not end well")

    def _start_ready(self, schedule: Schedule, note_end: Callable[[Stage], None]) -> None:
        for stage in schedule.ready():
            if len(schedule.running) >= self.jobs:
                return
            wanted = num_gpus(self.prepared.root, stage) if self.pool.gpus else 1
            lease = self.pool.try_lease(stage.needs_device, wanted)
            if lease is not None:
                schedule.start(stage)
                body = partial(self._reproduce, stage, lease)
                future = self._submit(stage, body, [f"device:{lease.device.name}"])
                future.add_done_callback(partial(self._finish, stage, lease, note_end))

    def _submit(
        self, stage: Stage, body: Callable[[], State[Any]], labels: Sequence[str] = ()
    ) -> PrefectFuture[Any]:
        # they have ended long ago; given only so that the UI draws the arrows
        above = [self.futures[address] for address in stage.upstream if self._is_good(address)]
        labels = [*labels, *self.labels([stage])]
        self.futures[stage.address] = _task(stage.name, body, labels).submit(wait_for=above)  # type: ignore[call-overload]
        return self.futures[stage.address]

    def _is_good(self, address: str) -> bool:
        return address in self.futures and address in self.ended and self.ended[address].good

    def _reproduce(self, stage: Stage, lease: leases.Lease) -> State[Any]:
        """Reproduce one stage; runs in a thread of Prefect's."""
        outcome = Outcome("failed", "it could not be started")
        running = self.running[stage.address] = summary.Running(lease.device.name)
        log = get_run_logger()

        def say(line: str) -> None:
            running.line = line
            log.info(line)

        try:
            outcome = self.prepared.executor.run(stage, lease, say)
        finally:
            self.running.pop(stage.address, None)
            self._note(stage, outcome, lease.device.name)
        return _task_state(outcome)

    def _finish(
        self, stage: Stage, lease: leases.Lease, note_end: Callable[[Stage], None], future: PrefectFuture[Any]
    ) -> None:
        """Account for a task that has ended, also for one whose body Prefect never called."""
        lease.release()
        if stage.address not in self.ended:
            self._note(stage, Outcome("failed", f"Prefect did not start it: {future.state.message}"), "")
        note_end(stage)

    def _note(self, stage: Stage, outcome: Outcome, device: str) -> None:
        what = (outcome.state, outcome.message, outcome.command_s)
        self.ended[stage.address] = Ended(stage.name, *what, device)
        records.add_attempt(self.prepared.root, records.Attempt(stage.address, *what))

    def skip(self, stages: Sequence[Stage], reason: str) -> None:
        """Show stages that will not run."""
        for stage in stages:
            self.ended[stage.address] = Ended(stage.name, "skipped", reason)
            self._submit(stage, lambda: Cancelled(name="Skipped", message=reason))

    def wait(self) -> None:
        """Wait until every task has ended."""
        for future in list(self.futures.values()):
            future.wait()

    def record(self) -> None:
        """Record in MLflow what is finished, unless a stage of the graph did; nothing depends on it."""
        changed = any(one.state in ("executed", "restored") for one in self.ended.values())
        done = any(one.name == TRACK and one.good for one in self.ended.values())
        if not changed or done or not recording.can_record():
            return

        log = get_run_logger()

        def body() -> State[Any]:
            sweep = self.prepared.root if self.prepared.home else None
            code = recording.track(self.prepared.project, get_run_logger().info, lambda: self.stop.asked, sweep)
            return Completed() if code == 0 else Failed(message=f"exit code {code}: try `facet track`")

        future = _task(TRACK, body).submit()
        while not future.state.is_final():
            future.wait(POLL_S)
        if future.state.is_failed():
            log.warning("MLflow has not got all of it: %s", future.state.message)


def _task(name: str, body: Callable[[], State[Any]], labels: Sequence[str] = ()) -> Task[[], Any]:
    """Return a task whose run has its name, and whose result is nobody's business."""
    return Task(
        body, name=name, task_run_name=name, tags=labels, persist_result=False, cache_policy=NO_CACHE
    )


def _task_state(outcome: Outcome) -> State[Any]:
    """Return what Prefect shows for a stage."""
    if outcome.good:
        return Completed(name="Completed" if outcome.state == "executed" else outcome.state.capitalize())
    if outcome.state == "stopped":
        return Cancelled(message=outcome.message)
    return Failed(message=outcome.message)


def _end(work: _Work, targets: Sequence[str], board: Board) -> State[Any]:
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


def _leave_artifacts(work: _Work, targets: Sequence[str], board: Board) -> None:
    """Leave a table of the stages, and the project's tables, both with links to MLflow."""
    graph, prepared = work.prepared.graph, work.prepared
    tables = sorted({table for stage in graph.select(targets) for table in graph.tables_of(stage)})
    mlflow = services.known(prepared.project).get(services.MLFLOW)
    if prepared.home:
        board.finish(summary.sweep(prepared.root), targets)
        return
    links = recording.experiment_links(prepared.root, mlflow.url, tables) if mlflow else {}
    if mlflow:
        work.links = recording.run_links(prepared.root, mlflow.url)
    board.finish(summary.markdown(prepared.root, tables, links), tables)
