"""Work pools through Prefect's API: a stage is a flow run of one deployment, in a queue of a work pool.

Importing this costs a second of CPU for Prefect's client, once per worker and coordinator, and none per stage.
A server that is away is waited for: `patiently`.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid4

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType, WorkerStatus
from prefect.client.schemas.responses import OrchestrationResult, SetStateStatus
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectAlreadyExists
from prefect.states import Cancelled, Cancelling, Crashed, Pending, Scheduled

from pipeline.servers import crash_automation
from pipeline.servers.flow_run_requests import AWAY

T = TypeVar("T")

FLOW, DEPLOYMENT = "facet stage", "stage"
POOL_TYPE = "facet"
"""A pool type of our own: one of Prefect's workers that joined by mistake would run stages as flows."""
HEARTBEAT_S = 10
"""Heartbeat interval; the server counts a worker as offline after three of them."""
FORGIVEN_S = 20.0
"""Grace period for offline workers: after the server was away, all are offline until their next heartbeat."""
HOLDER_MARK = "pid="
MANY = 200
# older servers refuse the client's own defaults
PAGE: dict[str, Any] = {"limit": MANY, "offset": 0, "sort": FlowRunSort.ID_DESC}
LINE = {"name": "facet.stage", "level": 20}
# labels of a flow run, in which a worker tells what came out
STATE, SECONDS, KEY, VALUE = "facet.state", "facet.command_s", "facet.key", "facet.value"
OPEN = (StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)


def patiently(ask: Callable[[], T], stop: Callable[[], bool] = lambda: False, pause_s: float = 1.0) -> T:
    """Repeat a request until the server answers.

    Raises:
        PrefectException: it answers that it will not.
    """
    while True:
        try:
            return ask()
        except AWAY as error:
            if stop() or not is_away(error):
                raise
            time.sleep(pause_s)


def is_away(error: Exception) -> bool:
    """Return whether repeating the request may help when the server is back."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code >= 500 or error.response.status_code in (408, 429)
    return isinstance(error, httpx.TransportError)


def holder(worker: str) -> str:
    """Return an identifier of the worker process that has claimed a stage; a restarted worker keeps its name."""
    return f"{worker} {HOLDER_MARK}{os.getpid()}"


class Forgiven:
    """Flow runs marked crashed for missing heartbeats, possibly the server's fault: they get a grace period."""

    def __init__(self) -> None:
        self.since_s: dict[UUID, float] = {}

    def is_over(self, run: FlowRun) -> bool:
        """Return whether the state of a run is final."""
        if run.state is None or not run.state.is_final():
            self.since_s.pop(run.id, None)
            return False
        if not run.state.is_crashed() or run.state.message != crash_automation.MESSAGE:
            return True
        return time.monotonic() - self.since_s.setdefault(run.id, time.monotonic()) > FORGIVEN_S


def worker_of(held_by: str) -> str:
    """Return the worker's name of a `holder`.

    >>> worker_of("gpu:0 on larch pid=12")
    'gpu:0 on larch'
    """
    return held_by.rpartition(f" {HOLDER_MARK}")[0]


class Silence:
    """Tracks which workers have been offline so long that they count as dead."""

    def __init__(self) -> None:
        self.since_s: dict[str, float] = {}

    def look(self, workers: Mapping[str, bool]) -> set[str]:
        """Record which workers are online now; return those that count as dead."""
        now_s = time.monotonic()
        self.since_s = {
            name: self.since_s.get(name, now_s) for name, online in workers.items() if not online
        }
        return {name for name, since_s in self.since_s.items() if now_s - since_s >= FORGIVEN_S}


def client() -> SyncPrefectClient:
    """Return a client; each thread needs its own."""
    return get_client(sync_client=True)


class StagePool:
    """A work pool whose workers run stages."""

    def __init__(self, name: str, api: SyncPrefectClient | None = None) -> None:
        self.name = name
        self.api = api or client()
        self._deployment: UUID | None = None

    def twin(self) -> StagePool:
        """Return the same pool with its own client, for another thread."""
        other = StagePool(self.name, client())
        other._deployment = self._deployment
        return other

    def prepare(self, queue: str) -> None:
        """Create the pool, a queue and the deployment for a stage, if they are missing."""
        with contextlib.suppress(ObjectAlreadyExists):
            self.api.create_work_pool(WorkPoolCreate(name=self.name, type=POOL_TYPE, description=DESCRIPTION))
        with contextlib.suppress(ObjectAlreadyExists):
            self.api.create_work_queue(queue, work_pool_name=self.name)
        self._deployment = None
        self.deployment()

    def deployment(self) -> UUID:
        """Return the deployment for a stage, created if it is missing."""
        if self._deployment is None:
            flow = self.api.create_flow_from_name(FLOW)
            self._deployment = self.api.create_deployment(
                flow_id=flow,
                name=f"{DEPLOYMENT} on {self.name}",
                work_pool_name=self.name,
                description="One stage of `facet run --pool`; do not start it by hand.",
                enforce_parameter_schema=False,
                parameter_openapi_schema={"type": "object", "properties": {}},
            )
        return self._deployment

    def submit(
        self, name: str, request: Mapping[str, Any], queue: str, tags: Iterable[str], parent: UUID | None
    ) -> UUID:
        """Put a stage into a queue; return its flow run."""
        run = self.api.create_flow_run_from_deployment(
            self.deployment(),
            parameters={"request": dict(request)},
            name=name,
            tags=sorted(tags),
            work_queue_name=queue,
            parent_task_run_id=parent,
        )
        return run.id

    def waiting(self, queues: Sequence[str]) -> list[FlowRun]:
        """Return the stages that wait for a worker, the oldest first."""
        until = datetime.now(UTC) + timedelta(seconds=1)
        found = self.api.get_scheduled_flow_runs_for_work_pool(self.name, list(queues), until)
        return [each.flow_run for each in found]

    def claim(self, run: FlowRun, worker: str) -> bool:
        """Claim a stage; return False if another worker was faster."""
        state: State[Any] = Pending(message=f"taken by {worker}")
        answer: OrchestrationResult[Any] = self.api.set_flow_run_state(run.id, state)
        if answer.status != SetStateStatus.ACCEPT:
            return False
        self.api.update_flow_run(run.id, infrastructure_pid=holder(worker))
        return True

    def read(self, identities: Iterable[UUID]) -> dict[UUID, FlowRun]:
        """Return flow runs by their id; those that the server does not have are left out."""
        wanted = FlowRunFilter(id=FlowRunFilterId(any_=list(identities)))
        return {run.id: run for run in self.api.read_flow_runs(flow_run_filter=wanted, **PAGE)}

    def tell(self, identity: UUID, result: Mapping[str, str | float]) -> None:
        """Store the result beside the state: a state's own data do not reach the server."""
        self.api.update_flow_run_labels(identity, dict(result))

    def set_state(self, identity: UUID, state: State[Any]) -> None:
        """Set the state of a flow run, overriding Prefect's rules."""
        self.api.set_flow_run_state(identity, state, force=True)

    def cancel(self, run: FlowRun) -> None:
        """Request the end of a stage: its worker is notified, unless it has none yet."""
        if run.state is None or run.state.is_final():
            return
        if run.state.is_scheduled():
            self.set_state(run.id, Cancelled(message="the run that requested it has ended"))
        elif not run.state.is_cancelling():
            self.set_state(run.id, Cancelling())

    def log(self, identity: UUID, lines: Sequence[tuple[datetime, str]]) -> None:
        """Send log lines of a stage."""
        self.api.create_logs(
            {"message": text, "timestamp": at.isoformat(), "flow_run_id": str(identity), **LINE} for at, text in lines
        )

    def beat(self, worker: str) -> None:
        """Send the heartbeat of a worker."""
        self.api.send_worker_heartbeat(self.name, worker, HEARTBEAT_S)

    def alive(self, run: FlowRun) -> None:
        """Send the heartbeat of a stage: after 90 s without one the server marks it crashed (`zombies`)."""
        resource = {"prefect.resource.id": f"prefect.flow-run.{run.id}", "prefect.resource.name": run.name}
        event = {"event": "prefect.flow-run.heartbeat", "id": str(uuid4()), "occurred": datetime.now(UTC).isoformat()}
        flow = crash_automation.related(FLOW) | {"prefect.resource.id": f"prefect.flow.{run.flow_id}"}
        self.api.request("POST", "/events", json=[event | {"resource": resource, "related": [flow]}]).raise_for_status()

    def workers(self) -> dict[str, bool]:
        """Return all workers the pool has had, and whether each is online, by the server's clock."""
        found = self.api.read_workers_for_work_pool(self.name, limit=MANY, offset=0)
        return {each.name: each.status == WorkerStatus.ONLINE for each in found}

    def mark_lost_of(self, dead: Collection[str]) -> None:
        """Give up the stages that ``dead`` workers had claimed, except those of this process."""
        wanted = FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(OPEN))),
            deployment_id=FlowRunFilterDeploymentId(any_=[self.deployment()]),
        )
        for run in self.api.read_flow_runs(flow_run_filter=wanted, **PAGE) if dead else ():
            held_by = run.infrastructure_pid or ""
            if (name := worker_of(held_by)) in dead and held_by != holder(name):
                self.set_state(run.id, Crashed(message=f"no heartbeat from {name}: killed or disconnected"))

    def give_back(self, identity: UUID, message: str) -> None:
        """Release a stage so that another worker can claim it."""
        self.set_state(identity, Scheduled(name="AwaitingRetry", message=message))


DESCRIPTION = "Stages of `facet run --pool`, one at a time on each worker's device. `facet worker` adds a worker."
