"""The work of a flow run: submits stages as Prefect tasks when they may start, and records how they end."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from prefect import State, Task, get_run_logger
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture
from prefect.states import Cancelled, Completed, Failed

from pipeline.base.words import few
from pipeline.base.workspace import Workspace
from pipeline.board import lines, wording
from pipeline.board.grouping import places
from pipeline.board.snapshot import Snapshot
from pipeline.devices import leases
from pipeline.execution import history
from pipeline.execution.executor import Executor
from pipeline.execution.graph import TRAIN, Graph, Stage
from pipeline.execution.schedule import Schedule
from pipeline.execution.stage_log import Note
from pipeline.execution.stage_result import StageResult
from pipeline.flow.display import ON_BOARD
from pipeline.flow.progress import Progress, Running
from pipeline.servers import flow_run_requests, follower
from pipeline.tracking import subprocess_client

POLL_S = 0.5
FOLLOWER_S = 20.0
"""How long trainings may be without the process that shows them in MLflow."""
TRACK = "track"


class Work:
    """Submits stages as tasks and records how they end."""

    def __init__(
        self, where: Workspace, executor: Executor, stop: flow_run_requests.Stop, snapshot: Snapshot
    ) -> None:
        """Prepare it; nothing is read yet.

        Args:
            where: the workspace.
            executor: runs the stages.
            stop: whether they are to stop.
            snapshot: of this flow run, without stages.
        """
        self.where, self.executor, self.stop, self.snapshot = where, executor, stop, snapshot
        self.graph = Graph({})
        self.links: dict[str, str] = {}
        self.futures: dict[str, PrefectFuture[Any]] = {}
        self.pool = executor.devices()
        self.progress = Progress(
            seconds=history.durations(where.folder),
            jobs=executor.jobs,
            num_devices=len(self.pool.gpus) or executor.jobs,
        )
        self.ended = self.progress.ended
        # the log of the flow run; stages write to those of their tasks
        self.story = get_run_logger()

    def take(self, graph: Graph) -> None:
        """Take the graph, and what is stale in it, as it is now."""
        self.graph = graph
        self.progress.places = places(graph)

    def labels(self, stages: Iterable[Stage]) -> list[str]:
        """Return the tags of ``stages``: their tables and their runs."""
        found = set()
        for stage in stages:
            found |= {f"table:{table}" for table in self.graph.tables_of(stage)}
            if name := self.graph.run_of(stage):
                found.add(f"run:{name}")
        return sorted(found)

    def expect(self, stages: Sequence[Stage]) -> None:
        """Record which stages are to be done, and log it."""
        self.progress.expected = {stage.address: stage for stage in stages}
        self.executor.expect(self.graph, stages)
        one = self.look()
        todo = [stage.name for stage in one.stages if not stage.ended]
        if todo:
            left = wording.left(one.left_s, one.left_is)
            many = "stages" if len(todo) > 1 else "stage"
            self.story.info(f"{len(todo)} {many} to run: {wording.kinds(todo)}" + (f"; {left}" if left else ""))

    def look(self) -> Snapshot:
        """Return a snapshot of this flow run; called from other threads, too."""
        return self.progress.look(replace(self.snapshot, stopping=self.stop.reason or ""))

    def drive(self, stages: Sequence[Stage]) -> None:
        """Run ``stages`` in dependency order, as many at a time as the executor takes, until all have ended."""
        try:
            self._drive(stages)
        finally:
            self.pool.stop_waiting()

    def _drive(self, stages: Sequence[Stage]) -> None:
        schedule, followed_s = Schedule(stages, self.progress.seconds), float("-inf")
        trains = any(stage.kind == TRAIN for stage in stages)
        ended: queue.SimpleQueue[Stage] = queue.SimpleQueue()
        warned = False
        while not schedule.finished:
            if self.stop.asked:
                if not warned:
                    get_run_logger().warning("stopping: stages may take a moment to keep what they have")
                    warned = True
                self.executor.stop_all()
                self.skip(schedule.abandon(), f"the run was {self.stop.reason}")
            if trains and time.monotonic() - followed_s > FOLLOWER_S:
                follower.ensure(self.where.project)
                followed_s = time.monotonic()
            self._start_ready(schedule, ended.put)
            try:
                stage = ended.get(timeout=POLL_S)
            except queue.Empty:
                continue
            below = schedule.finish(stage, self.ended[stage.address].good)
            self.skip(below, f"needs {stage.name}, which did not end well")

    def _start_ready(self, schedule: Schedule, note_end: Callable[[Stage], None]) -> None:
        for stage in schedule.ready():
            if len(schedule.running) >= self.executor.jobs:
                return
            lease = self.executor.try_lease(self.pool, stage)
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
        """Reproduce one stage; runs in a Prefect thread."""
        result = StageResult("failed", "it could not be started")
        running = self.progress.running[stage.address] = Running(lease.device.name)
        self.story.info(lines.begins(self.progress.stage(stage)))
        log = get_run_logger()

        def say(line: str) -> None:
            running.say(line)
            log.info(line)
            if isinstance(line, Note):
                self.story.warning(f"{stage.name}: {line}")

        try:
            result = self.executor.run(stage, lease, say)
        finally:
            self.progress.lines[stage.address] = running.line
            self._note(stage, replace(result, device=lease.device.name))
            self.progress.running.pop(stage.address, None)
        return _task_state(result)

    def _finish(
        self, stage: Stage, lease: leases.Lease, note_end: Callable[[Stage], None], future: PrefectFuture[Any]
    ) -> None:
        """Record the end of a task, including one whose body Prefect never called."""
        lease.release()
        if stage.address not in self.ended:
            self._note(stage, StageResult("failed", "Prefect did not start it"))
        note_end(stage)

    def _note(self, stage: Stage, result: StageResult) -> None:
        known = replace(result, address=stage.address, name=stage.name)
        self.ended[stage.address] = known
        history.add_attempt(self.where.folder, known)
        told = lines.ends(self.progress.stage(stage))
        level = logging.INFO if known.good else logging.ERROR if known.state == "failed" else logging.WARNING
        self.story.log(level, told, extra={ON_BOARD: True})

    def skip(self, stages: Sequence[Stage], reason: str) -> None:
        """Show stages that will not run."""

        def body() -> State[Any]:
            return Cancelled(name="Skipped", message=reason)

        for stage in stages:
            self.ended[stage.address] = StageResult("skipped", reason, name=stage.name)
            self._submit(stage, body)
        if stages:
            names = few([stage.name for stage in stages])
            self.story.warning(f"skipped: {names}: {reason}", extra={ON_BOARD: True})

    def wait(self) -> None:
        """Wait until every task has ended."""
        for future in list(self.futures.values()):
            future.wait()

    def record(self) -> None:
        """Record finished results in MLflow, unless a stage of the graph did; nothing depends on it."""
        changed = any(one.state in ("executed", "restored") for one in self.ended.values())
        done = any(one.name == TRACK and one.good for one in self.ended.values())
        if not changed or done:
            return

        def body() -> State[Any]:
            log, said = get_run_logger(), ["no output"]

            def say(line: str) -> None:
                said.append(line)
                log.info(line)
                self.story.info(line)  # few, and what became of the results

            code = subprocess_client.track(self.where, say, lambda: self.stop.asked)
            if code != 0:
                self.story.warning(f"MLflow does not have all results, try `facet track`: {said[-1]}")
            return Completed() if code == 0 else Failed(message=f"exit code {code}: try `facet track`")

        # not by asking for its state, which is the server's to tell, and that may be away
        over = threading.Event()
        _task(TRACK, body).submit().add_done_callback(lambda future: over.set())
        while not over.wait(POLL_S):
            continue


def _task(name: str, body: Callable[[], State[Any]], labels: Sequence[str] = ()) -> Task[[], Any]:
    """Return a task that is named after its stage and whose result is not persisted."""
    return Task(
        body, name=name, task_run_name=name, tags=flow_run_requests.few(labels),
        persist_result=False, cache_policy=NO_CACHE,
    )


def _task_state(result: StageResult) -> State[Any]:
    """Return the Prefect state for a stage's outcome."""
    if result.good:
        return Completed(name="Completed" if result.state == "executed" else result.state.capitalize())
    if result.state == "stopped":
        return Cancelled(message=result.message)
    return Failed(message=result.message)
