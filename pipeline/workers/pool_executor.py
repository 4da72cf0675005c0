"""Executor that sends stages to a work pool; the flow uses it like `execute`, which runs them in local processes.

What needs no device stays here, as does `resolve`, which says what there is to do. Workers of this very workspace
run a stage in place. Workers of other clones get the code as a commit, inputs and results through DVC; and only
here, where the result is restored from DVC's run cache, dvc.lock is written.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from prefect.client.schemas.objects import FlowRun
from prefect.runtime import flow_run

from pipeline import follow
from pipeline.base import environment, workspace
from pipeline.devices import leases
from pipeline.devices.leases import Device, Lease, Pool
from pipeline.execution.executor import Executor, Patience, Say
from pipeline.execution.fork_server import Forker
from pipeline.execution.graph import RESOLVE, Stage, num_gpus
from pipeline.execution.stage_result import StageResult, message_of
from pipeline.servers.flow_run_requests import AWAY
from pipeline.workers import code_transfer, result_transfer
from pipeline.workers.pool_api import KEY, SECONDS, STATE, VALUE, Forgiven, Silence, StagePool, patiently
from pipeline.workers.remote_calls import Calls
from pipeline.workers.result_transfer import Offer
from stages.core.errors import UnknownNameError

JOBS = 32
"""Default number of stages at a time in a work pool: workers come and go, and Prefect keeps the queue."""
POLL_S = 1.0
LOOK_S = 10.0
"""Seconds between checks of which workers are online."""
TRIES = 3
"""Attempts for a stage whose worker dies."""
OFFERS = 2
"""Offers prepared at a time: each is a process that hashes and uploads."""
ONE_DEVICE = "but a worker has one device: run it without --pool, or with `processes: 1`"
OWN_WORKER_S = 60.0
"""How long after the run began a worker of this workspace may still come, where all others are out of reach."""
STOP_S = 60.0
"""How long a cancelled stage may take to be reported as such."""


class Devices(Pool):
    """CPU slots of this machine, and a work pool for everything that needs a device."""

    def __init__(self, pool: str, slot_folder: Path) -> None:
        super().__init__([], environment.num_cores(), slot_folder)
        self.remote = Device(f"pool:{pool}")

    def try_lease(self, needs_device: bool, *arguments: Any) -> Lease | None:
        """Return a lease: the work pool itself has no limit."""
        return Lease(self.remote, []) if needs_device else super().try_lease(needs_device)


@dataclass
class Sent:
    """A stage in the work pool, in its last known state."""

    stage: Stage
    identity: UUID
    run: FlowRun | None = None
    is_over: bool = False
    """Whether its state is final."""


class PoolExecutor(Executor):
    """Runs stages on the workers of a work pool; may be used from several threads."""

    def __init__(
        self, root: Path, pool: str, jobs: int | None = None,
        patience: Patience | None = None, forker: Forker | None = None,
    ) -> None:  # fmt: skip
        """Create the pool if it is missing, and start to watch it; a server that is away is waited for."""
        super().__init__(root, jobs or JOBS, patience=patience, forker=forker)
        self.threads_per_stage = environment.num_cores()
        self.pool = StagePool(pool)
        self.here = workspace.identity(root)
        self.sent: dict[UUID, Sent] = {}
        self.commit = self.reference = ""
        self.unreachable: str | None = None
        """Why workers of other clones cannot be reached; None before the first check."""
        self.offers = threading.Semaphore(OFFERS)
        self.calls = Calls()
        self.git = threading.Lock()
        self.news = threading.Condition()
        self.over = threading.Event()
        self.began_s = time.monotonic()
        patiently(lambda: self.pool.prepare(workspace.queue(self.here)))
        self.online = {name for name, online in patiently(self.pool.workers).items() if online}
        self.watch = threading.Thread(target=self._watch, name="pool watch", daemon=True)
        self.watch.start()

    def devices(self) -> Pool:
        """Return this machine's slots and the pool."""
        return Devices(self.pool.name, self.slot_folder)

    def run(self, stage: Stage, lease: Lease, say: Say) -> StageResult:
        """Bring ``stage`` up to date, in the work pool if it needs a device; return the lease."""
        if not stage.needs_device or stage.name == RESOLVE:
            return super().run(stage, lease, say)
        if (processes := num_gpus(self.root, stage)) > 1:
            return StageResult("failed", f"it trains with {processes} processes, {ONE_DEVICE}")
        try:
            return self._run_in_pool(stage, say)
        except (ValueError, LookupError, RuntimeError, OSError) as error:
            return StageResult("failed" if self.stop_asked_s is None else "stopped", message_of(error, say))

    def _run_in_pool(self, stage: Stage, say: Say) -> StageResult:
        if not self._others():
            return self._in_pool(stage, {}, workspace.queue(self.here), say)
        offer = self._offer(stage)
        if offer.here:
            say(f"not sent: {offer.here}")
            return self._run_here(stage, say)
        request = {"key": offer.key, "reads": offer.reads, "inputs": list(offer.inputs)} | self._send_code()
        return self._in_pool(stage, request, workspace.EVERYWHERE, say)

    def stop_all(self) -> None:
        """End all stages here and in the pool; start no others."""
        super().stop_all()
        self.calls.stop_all()
        with self.news:
            sent = list(self.sent.values())
        api = self.pool.twin()
        for each in sent:
            with contextlib.suppress(*AWAY):
                if (run := api.read([each.identity]).get(each.identity)) is not None:
                    api.cancel(run)

    def close(self) -> None:
        """Stop the watch and the fork server; remove the commit that was sent."""
        self.over.set()
        super().close()
        if self.reference:
            with contextlib.suppress(RuntimeError):
                code_transfer.remove(self.root, self.reference)

    def _others(self) -> bool:
        """Return whether workers of other workspaces are online and can be reached.

        Raises:
            LookupError: only others are online, and this one cannot.
        """
        if all(workspace.is_of(name, self.here) for name in self.online):
            return False
        with self.git:
            if self.unreachable is None:
                self.unreachable = self._why_unreachable()
        if self.unreachable and not self._has_own_worker():
            raise UnknownNameError(
                f"the work pool {self.pool.name} has workers of other clones only: {self.unreachable}"
            )
        return not self.unreachable

    def _has_own_worker(self) -> bool:
        """Return whether a worker of this workspace is online; `facet up` may be starting it just now."""
        while not any(workspace.is_of(name, self.here) for name in self.online):
            if time.monotonic() - self.began_s > OWN_WORKER_S or not self._pause(POLL_S):
                return False
        return True

    def _why_unreachable(self) -> str:
        try:
            code_transfer.remote_of(self.root)
        except LookupError as error:
            return str(error)
        return str(self.calls.call(self.forker, result_transfer.why_no_remote))

    def _offer(self, stage: Stage) -> Offer:
        arguments = {"address": stage.address, "above": list(stage.upstream), "queue_path": self._queue_path()}
        with self.offers:
            offer = self.calls.call(self.forker, result_transfer.offer, **arguments)
        assert isinstance(offer, Offer)
        return offer

    def _send_code(self) -> dict[str, str]:
        """Push the commit that workers need; return it and its name on the git remote."""
        with self.git:
            if not self.commit:
                commit = code_transfer.snapshot(self.root)
                reference = code_transfer.reference(commit, uuid4().hex[:8])
                code_transfer.push(self.root, commit, reference)
                self.commit, self.reference = commit, reference
        return {"commit": self.commit, "reference": self.reference}

    def _run_here(self, stage: Stage, say: Say) -> StageResult:
        # `jobs` counts what waits in the pool; this machine does one stage per core
        slots = Pool(leases.find_gpus(), environment.num_cores(), self.slot_folder)
        return super().run(stage, slots.lease(needs_device=False), say)

    def _queue_path(self) -> str:
        return str(environment.state_folder(self.root) / "dvc-queue.lock")

    def _in_pool(self, stage: Stage, more: Mapping[str, Any], queue: str, say: Say) -> StageResult:
        """Send a stage, wait for it and fetch its result; repeat if its worker died."""
        parent = flow_run.get_id()
        request = {"address": stage.address, "name": stage.name, "workspace": self.here, "parent": parent, **more}
        request["patience"] = asdict(self.patience)
        request["of_project"] = follow.project_of(self.root.resolve()) == self.root.resolve()
        outcome = StageResult("failed", "it was not sent")
        for attempt in range(1, TRIES + 1):
            if self.stop_asked_s is not None:
                return StageResult("stopped", "stopped before it began")
            run = self._sent(stage, request, queue, say)
            outcome, again = self._ended(stage, run, say)
            if not again or attempt == TRIES:
                return outcome
            say(f"{outcome.message}: sending it again, attempt {attempt + 1} of {TRIES}")
        return outcome

    def _sent(self, stage: Stage, request: Mapping[str, Any], queue: str, say: Say) -> FlowRun | None:
        """Submit a stage and wait until it has ended; None if that could not be determined in time."""
        api = self.pool.twin()
        tags = [f"of:{flow_run.get_name()}"]
        identity = patiently(lambda: api.submit(stage.name, request, queue, tags, None), self._stopping)
        sent = Sent(stage, identity)
        with self.news:
            self.sent[identity] = sent
        say(f"waiting in the work pool {self.pool.name}: flow run {identity}")
        told, told_s = "", time.monotonic()
        try:
            while not sent.is_over:
                with self.news:
                    self.news.wait(POLL_S)
                if sent.run and sent.run.state and sent.run.state.is_running() and sent.run.state.message != told:
                    told = sent.run.state.message or ""
                    say(told)
                if not told and not self.online and time.monotonic() - told_s > 3 * LOOK_S:
                    say(f"no worker of the work pool {self.pool.name} is online: start one with `facet worker`")
                    told_s = time.monotonic()
                if self.stop_asked_s is not None and time.monotonic() - self.stop_asked_s > STOP_S:
                    break
        finally:
            with self.news:
                self.sent.pop(identity, None)
        return sent.run if sent.is_over else None

    def _stopping(self) -> bool:
        return self.stop_asked_s is not None

    def _ended(self, stage: Stage, run: FlowRun | None, say: Say) -> tuple[StageResult, bool]:
        """Return how a stage ended in the pool, and whether to send it again."""
        if run is None or run.state is None:
            return StageResult("stopped", "stopped; its worker has not answered yet"), False
        state = run.state
        result = {name: str(value) for name, value in run.labels.items()}
        seconds = float(result.get(SECONDS, 0.0))
        if state.is_cancelled():
            return StageResult("stopped", state.message or "cancelled", seconds), False
        if state.is_crashed():
            return StageResult("failed", state.message or "its worker died"), True
        if not state.is_completed():
            return StageResult("failed", state.message or "failed", seconds), False
        executed = result.get(STATE) == "executed"
        if VALUE in result:
            return self._restored(stage, result, seconds if executed else None, say), False
        return StageResult("executed" if executed else "unchanged", state.message or "", seconds), False

    def _restored(self, stage: Stage, result: Mapping[str, str], seconds: float | None, say: Say) -> StageResult:
        """Restore the result of another machine's worker into this workspace and its dvc.lock."""
        arguments = {"address": stage.address, "key": result[KEY], "value": result[VALUE]}
        arguments["queue_path"] = self._queue_path()
        if not self.calls.call(self.forker, result_transfer.fetch, **arguments):
            return StageResult("failed", "its worker pushed a result which is not on the DVC remote: is it the same?")
        outcome = self._run_here(stage, say)
        if outcome.state == "restored" and seconds is not None:
            return replace(outcome, state="executed", command_s=seconds)
        return outcome

    def _watch(self) -> None:
        """Poll the state of all sent stages with one request; give up those of dead workers."""
        api, silence, forgiven, looked_s = self.pool.twin(), Silence(), Forgiven(), 0.0
        while not self.over.wait(POLL_S):
            with contextlib.suppress(*AWAY):  # a server that is away keeps no stage from going on
                with self.news:
                    asked = list(self.sent)
                found = api.read(asked) if asked else {}
                with self.news:
                    for identity, run in found.items():
                        if identity in self.sent:
                            self.sent[identity].run = run
                            self.sent[identity].is_over = forgiven.is_over(run)
                    self.news.notify_all()
                if time.monotonic() - looked_s > LOOK_S:
                    workers, looked_s = api.workers(), time.monotonic()
                    self.online = {name for name, online in workers.items() if online}
                    api.mark_lost_of(silence.look(workers))
