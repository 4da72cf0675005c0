"""`facet worker`: claims stages from a work pool, one at a time, and runs them on one device.

Prefect's client is imported once and DVC once, in the process that forks for each stage: taking a stage costs a
tenth of a second of CPU, where a worker of Prefect's starts a Python for it. The device is leased from the kernel
like any other, in turns: a `facet run` beside the worker waits for it and it for that.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any
from uuid import UUID

from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Completed, Failed, Running

from pipeline.base import environment, workspace
from pipeline.devices.leases import Account, Lease, try_lease
from pipeline.execution.executor import Executor, Patience
from pipeline.execution.graph import Stage
from pipeline.execution.stage_result import StageResult, message_of
from pipeline.servers import crash_automation, follower
from pipeline.servers.flow_run_requests import AWAY
from pipeline.workers import code_transfer, input_transfer, pool_api, result_transfer
from pipeline.workers.pool_api import Forgiven, StagePool, patiently
from pipeline.workers.remote_calls import Calls
from pipeline.workers.worker_setup import Post, ready_file

IDLE_S = 1.0
WATCH_S = 1.0
JANITOR_S = 15.0
MAX_LINES = 5000
"""Lines of a stage kept while the server is away; the log file has them all."""


class Worker:
    """Serves one device until it is stopped."""

    def __init__(self, post: Post, pool: str, say: Callable[[str], None]) -> None:
        self.post, self.say = post, say
        self.here = workspace.identity(post.root)
        self.name = workspace.worker_name(post.device.name, self.here)
        self.queues = [workspace.queue(self.here), workspace.EVERYWHERE]
        self.pool = StagePool(pool)
        self.account = Account(post.folder)
        self.stopping = threading.Event()
        self.executors: dict[str, Executor] = {}

    def stop(self, number: int = 0, frame: FrameType | None = None) -> None:
        """Claim no further stage, and end the running one; a signal handler."""
        self.stopping.set()

    def serve(self) -> None:
        """Claim and run stages until stopped."""
        try:
            self._join()
            threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()
            self._loop()
        except AWAY:
            if not self.stopping.is_set():
                raise
        finally:
            for executor in self.executors.values():
                executor.close()

    def _join(self) -> None:
        patiently(lambda: self.pool.prepare(self.queues[0]), self.stopping.is_set)
        patiently(lambda: self.pool.beat(self.name), self.stopping.is_set)
        crash_automation.watch(str(self.pool.api.api_url).rstrip("/"), self.say)
        # what a worker of this name had when it was killed
        patiently(lambda: self.pool.mark_lost_of({self.name}), self.stopping.is_set)
        mark = {"pid": os.getpid(), "pool": self.pool.name, "name": self.name}
        environment.write_json(ready_file(self.post.root, self.post.device.name), mark)
        self.say(f"{self.name} takes stages from the work pool {self.pool.name}")

    def _beat(self) -> None:
        pool = self.pool.twin()
        while not self.stopping.wait(pool_api.HEARTBEAT_S):
            try:
                pool.beat(self.name)
            except ObjectNotFound:
                with contextlib.suppress(*AWAY):
                    pool.prepare(self.queues[0])  # somebody deleted the pool, or the server has a new database
            except AWAY:
                continue

    def _loop(self) -> None:
        silence, cleaned_s, said = pool_api.Silence(), time.monotonic(), ""
        while not self.stopping.is_set():
            try:
                if self._take_one():
                    continue
                if time.monotonic() - cleaned_s > JANITOR_S:
                    cleaned_s = time.monotonic()
                    self.pool.mark_lost_of(silence.look(self.pool.workers()))
                said = ""
            except AWAY as error:
                self.account.stop_waiting()
                if (what := (str(error) if error.args else repr(error)).partition("\n")[0]) != said:
                    self.say(f"Prefect gave an unexpected answer, stages are waiting: {what}")
                    said = what
            self.stopping.wait(IDLE_S)

    def _take_one(self) -> bool:
        """Run one stage if one waits and the device is free; return False if not."""
        waiting = self.pool.waiting(self.queues)
        if not waiting:
            self.account.stop_waiting()
            return False
        lease = self.account.take(lambda: try_lease(self.post.device, self.post.folder))
        if lease is None:
            return False
        with lease:
            for run in waiting:
                if self.pool.claim(run, self.name):
                    self._do(run, lease)
                    return True
        return False

    def _do(self, run: FlowRun, lease: Lease) -> None:
        """Run one stage and report how it ended, as soon as the server can be reached."""
        request = run.parameters["request"]
        self.say(f"{request['name']}: started")
        with Attention(self, run, request.get("parent")) as attention:
            began: State[Any] = Running(message=f"on {self.name}")
            with contextlib.suppress(*AWAY):
                self.pool.set_state(run.id, began)
            try:
                outcome, result = self._work(request, lease, attention)
            except (RuntimeError, ValueError, LookupError, OSError) as error:
                outcome, result = StageResult("stopped" if attention.why else "failed", message_of(error, self.say)), {}
        self.say(f"{request['name']}: {outcome.state} {outcome.message}".rstrip())
        give_up_s = time.monotonic() + 10.0
        with contextlib.suppress(ObjectNotFound, *(AWAY if self.stopping.is_set() else ())):
            patiently(
                lambda: self._report(run.id, outcome, result, attention.why),
                # a worker that was told to end cannot wait for a server that is gone
                lambda: self.stopping.is_set() and time.monotonic() > give_up_s,
            )

    def _work(
        self, request: Mapping[str, Any], lease: Lease, attention: Attention
    ) -> tuple[StageResult, dict[str, str | float]]:
        stage = Stage(request["address"], request["name"], (), ())
        if request["workspace"] == self.here:
            follower.ensure_for(stage, self.post.root)
            attention.executor = self._executor(self.post.root, request["patience"])
            outcome = attention.executor.run(stage, lease, attention.say)
            return outcome, _result(outcome)
        tree = self.post.state_folder / "tree"
        code_transfer.check_out(self.post.root, tree, request["commit"], request["reference"])
        attention.executor = executor = self._executor(tree, request["patience"], request["commit"])
        wanted = {name: request[name] for name in ("address", "key", "reads", "inputs")}
        refused = self._call(executor, attention, input_transfer.receive, **wanted, own=str(self.post.root))
        if refused:
            return StageResult("failed", f"{self.name}: {refused}"), {}
        follower.ensure_for(stage, tree, of_project=request.get("of_project", False))
        outcome = executor.run(stage, lease, attention.say)
        if not outcome.good:
            return outcome, {}
        key, value = self._call(executor, attention, result_transfer.publish, address=stage.address)
        return outcome, _result(outcome) | {pool_api.KEY: key, pool_api.VALUE: value}

    def _call(self, executor: Executor, attention: Attention, function: Callable[..., Any], **given: Any) -> Any:
        """Run a part of the transport in a process that a cancellation can end."""
        attention.calls = Calls()
        try:
            return attention.calls.call(executor.forker, function, **given)
        finally:
            attention.calls = None

    def _executor(self, root: Path, patience: Mapping[str, Any], commit: str = "") -> Executor:
        """Return the executor for a workspace at a commit: the programs that it forks use that commit's code."""
        wanted = f"{root}@{commit}"
        if wanted not in self.executors:
            for key in [key for key in self.executors if key.startswith(f"{root}@")]:
                self.executors.pop(key).close()
            executor = Executor(root, jobs=1)
            executor.threads_per_stage = self.post.threads
            self.executors[wanted] = executor
        self.executors[wanted].stop_asked_s = None
        self.executors[wanted].patience = Patience(**patience)
        return self.executors[wanted]

    def _report(self, identity: UUID, outcome: StageResult, result: Mapping[str, str | float], why: str) -> None:
        if outcome.state == "stopped" and self.stopping.is_set():
            self.pool.give_back(identity, f"{self.name} was stopped; finished work is kept")
            return
        if result:
            self.pool.tell(identity, result)
        seconds = f" in {outcome.command_s:.1f} s" if outcome.state == "executed" else ""
        if outcome.good:
            state: State[Any] = Completed(message=f"{outcome.state}{seconds} on {self.name}")
        elif outcome.state == "stopped":
            state = Cancelled(message=f"{why or outcome.message}; finished work is kept")
        else:
            state = Failed(message=outcome.message)
        self.pool.set_state(identity, state)


def _result(outcome: StageResult) -> dict[str, str | float]:
    return {pool_api.STATE: outcome.state, pool_api.SECONDS: round(outcome.command_s, 3)}


@dataclass
class Attention:
    """Follows one running stage: sends its log lines, and ends it if it was cancelled."""

    worker: Worker
    run: FlowRun
    parent: str | None
    why: str = ""
    """Why it was ended from outside."""
    executor: Executor | None = None
    calls: Calls | None = None
    lines: list[tuple[datetime, str]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    forgiven: Forgiven = field(default_factory=Forgiven)
    told_s: float = float("-inf")  # of the last heartbeat

    def say(self, line: str) -> None:
        """Send a log line of the stage soon."""
        if len(self.lines) < MAX_LINES:
            self.lines.append((datetime.now(UTC), line))

    def __enter__(self) -> Attention:
        self.thread = threading.Thread(target=self._follow, name="attention", daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()

    def _follow(self) -> None:
        pool = self.worker.pool.twin()
        while True:
            last = self.over.wait(WATCH_S)
            if not self.why and self.worker.stopping.is_set():
                self.why = "its worker was stopped"
            with contextlib.suppress(*AWAY):
                self._send_lines(pool)
                self._tell_that_it_lives(pool)
                if not self.why and not last:
                    self.why = self._unwanted(pool)
            if last:
                return
            if self.why:
                self._end()

    def _send_lines(self, pool: StagePool) -> None:
        while sending := self.lines[:200]:
            pool.log(self.run.id, sending)
            del self.lines[: len(sending)]

    def _tell_that_it_lives(self, pool: StagePool) -> None:
        if time.monotonic() - self.told_s > crash_automation.HEARTBEAT_S and not self.over.is_set():
            pool.alive(self.run)
            self.told_s = time.monotonic()

    def _unwanted(self, pool: StagePool) -> str:
        """Return the reason why the stage is to end, if there is one."""
        wanted = [self.run.id, *([UUID(self.parent)] if self.parent else [])]
        found = pool.read(wanted)
        own = found.get(self.run.id)
        if own is None or own.state is None:
            return "its flow run was deleted" if self.run.id not in found else ""
        if own.state.is_crashed() and own.state.message == crash_automation.MESSAGE:
            # the server was away for longer than it waits for heartbeats
            pool.set_state(self.run.id, Running(message=f"on {self.worker.name}"))
        elif own.state.is_cancelling() or own.state.is_final():
            return "cancelled"
        above = found.get(UUID(self.parent)) if self.parent else None
        if above is not None and above.state is not None and self.forgiven.is_over(above):
            return f"the run that requested it is {str(above.state.name).lower()}"
        return ""

    def _end(self) -> None:
        if self.executor is not None:
            self.executor.stop_all()
        if (calls := self.calls) is not None:
            calls.stop_all()


def serve(post: Post, pool: str, say: Callable[[str], None]) -> None:
    """Run as a worker until SIGTERM or Ctrl-C."""
    worker = Worker(post, pool, say)
    signal.signal(signal.SIGTERM, worker.stop)
    signal.signal(signal.SIGINT, worker.stop)
    worker.serve()
