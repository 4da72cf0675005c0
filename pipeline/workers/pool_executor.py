"""Executor that sends training runs to a work pool; the flow uses it like `Executor`, which runs all here.

What travels is a training run: those of its stages that need a device and could run now, one after the other. They go
as one flow run, whose worker publishes the result of each stage when it is there. Here each stage waits for its own
result and restores it from DVC's run cache; only here, dvc.lock is written. All other stages run here.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from prefect import get_run_logger
from prefect.client.schemas.objects import FlowRun

from pipeline.base import environment, workspace
from pipeline.devices import leases
from pipeline.devices.leases import Device, Lease, Pool
from pipeline.execution.executor import Executor, Patience, Say
from pipeline.execution.fork_server import Forker
from pipeline.execution.graph import Graph, Stage, num_gpus
from pipeline.execution.stage_result import StageResult, message_of
from pipeline.servers import crash_automation
from pipeline.servers.flow_run_requests import AWAY
from pipeline.workers import code_transfer, result_transfer
from pipeline.workers.remote_calls import Calls
from pipeline.workers.work_pool import WITHDRAWN, Training, patiently

JOBS = 32
"""Default number of stages at a time in a work pool: workers come and go, and Prefect keeps the queue."""
POLL_S = 1.0
TRIES = 3
"""Attempts for a training run whose process dies."""
FORGIVEN_S = 20.0
"""Grace period for a flow run that missed its heartbeats: perhaps it was the server that was away."""
STOP_S = 60.0
"""How long a cancelled training run may take to be reported as such."""
NO_WORKER_S = 30.0
STOPPED = "its worker was stopped; finished work is kept"
"""Message of a training run that is to go on elsewhere, as often as it takes."""
HOST = "facet.host"


def _alone(stage: Stage, among: Collection[str]) -> dict[str, Any]:
    """Return a stage that knows only of those ``among`` which it is sent."""
    upstream = tuple(above for above in stage.upstream if above in among)
    return asdict(replace(stage, upstream=upstream, reasons=("was sent",), running=False))


def label(stage_name: str) -> str:
    """Return the label of a flow run in which a worker reports the result of a stage."""
    return f"facet.stage.{stage_name}"


@dataclass
class Sent:
    """Stages of a training run in the work pool, and their flow run as last seen."""

    run: FlowRun
    silent_s: float | None = None
    """When it was first seen as crashed for missing heartbeats."""

    def report(self, stage: Stage) -> dict[str, Any]:
        """Return what the worker reported of a stage; empty while it has not ended."""
        return dict(json.loads(str(self.run.labels.get(label(stage.name), "{}"))))

    @property
    def is_over(self) -> bool:
        """Whether the flow run has ended; called at each look."""
        state = self.run.state
        if state is None or not state.is_final():
            self.silent_s = None
            return False
        if not state.is_crashed() or state.message != crash_automation.MESSAGE:
            return True
        self.silent_s = self.silent_s or time.monotonic()
        return time.monotonic() - self.silent_s > FORGIVEN_S


class PoolExecutor(Executor):
    """Runs the stages of training runs on the workers of a work pool; may be used from several threads."""

    def __init__(
        self, root: Path, pool: str, jobs: int | None = None, patience: Patience | None = None,
        slot_folder: Path | None = None, forker: Forker | None = None,
    ) -> None:  # fmt: skip
        """Create what is missing of the pool, and start to watch it; a server that is away is waited for."""
        super().__init__(root, jobs or JOBS, patience=patience, slot_folder=slot_folder, forker=forker)
        self.threads_per_stage = environment.num_cores()
        self.pool = pool
        self.here = workspace.identity(root)
        self.graph = Graph({})
        self.todo: dict[str, Stage] = {}
        self.local: set[str] = set()
        """Addresses of the stages that run or ran here."""
        self.done: set[str] = set()
        self.sent: dict[str, Sent] = {}
        self.alone: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self.code: dict[str, str] = {}
        self.calls, self.git = Calls(), threading.Lock()
        self.news, self.over = threading.Condition(), threading.Event()
        training = Training(pool)
        # once: many at a time would wait for each other in the server's database
        self.deployment = patiently(training.prepare)
        crash_automation.watch(str(training.api.api_url).rstrip("/"), get_run_logger().warning)
        threading.Thread(target=self._watch, name="pool watch", daemon=True).start()

    def devices(self) -> Pool:
        """Return this machine's devices: `jobs` counts what waits in the pool, this machine does one stage per core."""
        return Pool(leases.find_gpus(), environment.num_cores(), self.slot_folder)

    def expect(self, graph: Graph, stages: Sequence[Stage]) -> None:
        """Take the graph, and what is to be done of it."""
        self.graph, self.todo = graph, {stage.address: stage for stage in stages}

    def try_lease(self, devices: Pool, stage: Stage) -> Lease | None:
        """Return a lease: the work pool itself has no limit."""
        return Lease(Device(f"pool:{self.pool}"), []) if self._is_sent(stage) else super().try_lease(devices, stage)

    def run(self, stage: Stage, lease: Lease, say: Say) -> StageResult:
        """Bring ``stage`` up to date, in the work pool if it is a training run's and needs a device."""
        try:
            result = self._run_in_pool(stage, say) if self._is_sent(stage) else super().run(stage, lease, say)
        except (ValueError, LookupError, RuntimeError, OSError, *AWAY) as error:
            result = StageResult("failed" if self.stop_asked_s is None else "stopped", message_of(error, say))
        if result.good:
            self.done.add(stage.address)
        return result

    def stop_all(self) -> None:
        """End all stages here and in the pool; start no others."""
        super().stop_all()
        self.calls.stop_all()
        with self.news:
            wanted = {sent.run.id for sent in self.sent.values() if not sent.is_over}
        training = Training(self.pool)
        for identity in wanted:
            with contextlib.suppress(*AWAY):
                training.cancel(identity)

    def close(self) -> None:
        """Stop the watch and the fork server; remove the commit that was sent."""
        self.over.set()
        super().close()
        if self.code:
            with contextlib.suppress(RuntimeError):
                code_transfer.remove(self.root, self.code["reference"])

    def _is_sent(self, stage: Stage) -> bool:
        return stage.needs_device and self.graph.run_of(stage) is not None

    def _run_in_pool(self, stage: Stage, say: Say) -> StageResult:
        """Send a stage with those that can go along, unless that is done, and wait for it; again if its worker died."""
        deaths = 0
        while self.stop_asked_s is None:
            with self.alone[stage.key]:
                sent = self.sent.get(stage.address) or self._send(stage, say)
            if sent is None:
                return self._run_here(stage, say)
            result = self._ended(sent, stage, say)
            if result is not None:
                return result
            message = (sent.run.state and sent.run.state.message) or "its process died"
            deaths += sent.run.state is not None and sent.run.state.is_crashed() and message != STOPPED
            if deaths == TRIES:
                return StageResult("failed", message)
            with self.news:
                self.sent = {address: each for address, each in self.sent.items() if each is not sent}
            say(f"{message}: sending it again")
        return StageResult("stopped", "stopped before it began")

    def _send(self, stage: Stage, say: Say) -> Sent | None:
        """Send a stage and those that can go with it; return None if it is to run here."""
        stages = self._together(stage)
        arguments = {"addresses": list(stages), "above": {each.address: each.upstream for each in stages.values()}}
        offer = self.calls.call(self.forker, result_transfer.offer, **arguments, queue_path=self._queue_path())
        if offer.here:
            self.local.add(stage.address)
            say(f"not sent: {offer.here}")
            return None
        going = [_alone(stages[address], offer.reads) for address in offer.reads]
        request = {"stages": going, "reads": offer.reads, "inputs": list(offer.inputs)}
        request |= {"patience": asdict(self.patience)}
        devices = max(num_gpus(self.root, each) for each in stages.values())
        code, training = self._send_code() | {"workspace": self.here}, Training(self.pool)
        run = patiently(lambda: training.submit(self.deployment, stage.key, request, devices, code), self._stopping)
        say(f"waiting in the work pool {self.pool}: flow run {run.id}")
        sent = Sent(run)
        with self.news:
            self.sent |= dict.fromkeys(offer.reads, sent)
        return sent

    def _together(self, stage: Stage) -> dict[str, Stage]:
        """Return ``stage`` and those of its training run that could run after it with nothing else."""
        found = {stage.address: stage}
        for address, each in self.todo.items():
            taken = address in self.local or address in self.done or address in self.sent
            if each.key == stage.key and self._is_sent(each) and not taken:
                needed = [above for above in each.upstream if above in self.todo]
                if all(above in found or above in self.done for above in needed):
                    found[address] = each
        return found

    def _send_code(self) -> dict[str, str]:
        """Push the commit that workers need; return it and its name on the git remote."""
        with self.git:
            if not self.code:
                commit = code_transfer.snapshot(self.root)
                reference = code_transfer.reference(commit, uuid4().hex[:8])
                code_transfer.push(self.root, commit, reference)
                self.code = {"commit": commit, "reference": reference}
        return self.code

    def _run_here(self, stage: Stage, say: Say) -> StageResult:
        return super().run(stage, self.devices().lease(needs_device=False), say)

    def _stopping(self) -> bool:
        return self.stop_asked_s is not None

    def _queue_path(self) -> str:
        return str(environment.state_folder(self.root) / "dvc-queue.lock")

    def _ended(self, sent: Sent, stage: Stage, say: Say) -> StageResult | None:
        """Wait for a stage in the pool and restore its result; return None if it is to be sent again."""
        told, told_s = "", time.monotonic()
        while not (report := sent.report(stage)) and not sent.is_over:
            with self.news:
                self.news.wait(POLL_S)
            if (host := str(sent.run.labels.get(HOST, ""))) != told:
                told = host
                say(f"on {host}")
            if not told and time.monotonic() - told_s > NO_WORKER_S:
                self._say_if_alone(say)
                told_s = time.monotonic()
            if self.stop_asked_s is not None and time.monotonic() - self.stop_asked_s > STOP_S:
                return StageResult("stopped", "stopped; its worker has not answered yet")
        if report:
            return self._restored(stage, report, say)
        state = sent.run.state
        assert state is not None
        withdrawn = state.is_cancelled() and WITHDRAWN in sent.run.labels and self.stop_asked_s is None
        if state.is_crashed() or withdrawn:
            return None
        return StageResult("stopped" if state.is_cancelled() else "failed", state.message or str(state.name))

    def _say_if_alone(self, say: Say) -> None:
        with contextlib.suppress(*AWAY):
            if not Training(self.pool).has_workers():
                say(f"no worker of the work pool {self.pool} is online: start one with `facet worker`")

    def _restored(self, stage: Stage, report: dict[str, Any], say: Say) -> StageResult:
        """Restore a stage's result into this workspace and its dvc.lock."""
        result = StageResult(report["state"], report["message"], report["seconds"])
        if not result.good:
            return result
        arguments = {"address": stage.address, "key": report["key"], "value": report["value"]}
        if not self.calls.call(self.forker, result_transfer.fetch, **arguments, queue_path=self._queue_path()):
            return StageResult("failed", "its worker pushed a result which is not on the DVC remote: is it the same?")
        outcome = self._run_here(stage, say)
        executed = outcome.state == "restored" and result.state == "executed"
        return replace(outcome, state="executed", command_s=result.command_s) if executed else outcome

    def _watch(self) -> None:
        """Read the state of all flow runs that were sent with one request."""
        training = Training(self.pool)
        while not self.over.wait(POLL_S):
            with contextlib.suppress(*AWAY):  # a server that is away keeps no stage from going on
                with self.news:
                    open_ = {sent.run.id: sent for sent in self.sent.values() if not sent.is_over}
                found = training.read(open_) if open_ else {}
                with self.news:
                    for identity, run in found.items():
                        open_[identity].run = run
                    self.news.notify_all()
