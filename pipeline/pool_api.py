"""What pools ask of Prefect's API: a stage is a flow run of one deployment, in the queue of a work pool.

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

from pipeline import zombies
from pipeline.prefect_run import AWAY

T = TypeVar("T")

FLOW, DEPLOYMENT = "facet stage", "stage"
POOL_TYPE = "facet"
"""A type of our own: a worker of Prefect's that joined by mistake would try to run stages as flows."""
HEARTBEAT_S = 10
"""The server counts a worker as offline after three of them."""
FORGIVEN_S = 20.0
"""So much longer a worker may be offline: after the server itself was away, all are, until their next heartbeat."""
HOLDER_MARK = "pid="
MANY = 200
# older servers refuse the client's own defaults
PAGE: dict[str, Any] = {"limit": MANY, "offset": 0, "sort": FlowRunSort.ID_DESC}
LINE = {"name": "facet.stage", "level": 20}
# labels of a flow run, in which a worker tells what came out
STATE, SECONDS, KEY, VALUE = "facet.state", "facet.command_s", "facet.key", "facet.value"
OPEN = (StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)


def patiently(ask: Callable[[], T], stop: Callable[[], bool] = lambda: False, pause_s: float = 1.0) -> T:
    """Ask until the server answers.

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
    """Whether a server that comes back may answer the same question otherwise."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code >= 500 or error.response.status_code in (408, 429)
    return isinstance(error, httpx.TransportError)


def holder(worker: str) -> str:
    """Return who has taken a stage: a worker, and which process, for its name comes again when it is restarted."""
    return f"{worker} {HOLDER_MARK}{os.getpid()}"


class Forgiven:
    """Flow runs shown as crashed because they were silent, which may be the server's fault: they get a while."""

    def __init__(self) -> None:
        self.since_s: dict[UUID, float] = {}

    def is_over(self, run: FlowRun) -> bool:
        """Whether the state of a run will not change any more."""
        if run.state is None or not run.state.is_final():
            self.since_s.pop(run.id, None)
            return False
        if not run.state.is_crashed() or run.state.message != zombies.MESSAGE:
            return True
        return time.monotonic() - self.since_s.setdefault(run.id, time.monotonic()) > FORGIVEN_S


def worker_of(held_by: str) -> str:
    """Return the worker's name of a `holder`.

    >>> worker_of("gpu:0 on larch pid=12")
    'gpu:0 on larch'
    """
    return held_by.rpartition(f" {HOLDER_MARK}")[0]


class Silence:
    """Which workers have been offline for so long that they are dead."""

    def __init__(self) -> None:
        self.since_s: dict[str, float] = {}

    def look(self, workers: Mapping[str, bool]) -> set[str]:
        """Note who is online now; return who counts as dead."""
        now_s = time.monotonic()
        self.since_s = {
            name: self.since_s.get(name, now_s) for name, online in workers.items() if not online
        }
        return {name for name, since_s in self.since_s.items() if now_s - since_s >= FORGIVEN_S}


def client() -> SyncPrefectClient:
    """Return a client; each thread needs one of its own."""
    return get_client(sync_client=True)


class StagePool:
    """One work pool whose workers run stages."""

    def __init__(self, name: str, api: SyncPrefectClient | None = None) -> None:
        self.name = name
        self.api = api or client()
        self._deployment: UUID | None = None

    def twin(self) -> StagePool:
        """Return the same pool with a client of its own, for another thread."""
        other = StagePool(self.name, client())
        other._deployment = self._deployment
        return other

    def prepare(self, queue: str) -> None:
        """Make the pool, a queue and the deployment for a stage, unless they are there."""
        with contextlib.suppress(ObjectAlreadyExists):
            self.api.create_work_pool(WorkPoolCreate(name=self.name, type=POOL_TYPE, description=DESCRIPTION))
        with contextlib.suppress(ObjectAlreadyExists):
            self.api.create_work_queue(queue, work_pool_name=self.name)
        self._deployment = None
        self.deployment()

    def deployment(self) -> UUID:
        """Return the deployment for a stage; made if it is not there."""
        if self._deployment is None:
            flow = self.api.create_flow_from_name(FLOW)
            self._deployment = self.api.create_deployment(
                flow_id=flow,
                name=f"{DEPLOYMENT} on {self.name}",
                work_pool_name=self.name,
                description="One stage of a `facet run --pool`; not to be started by hand.",
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
        """Take a stage; False if another worker was faster."""
        state: State[Any] = Pending(message=f"taken by {worker}")
        answer: OrchestrationResult[Any] = self.api.set_flow_run_state(run.id, state)
        if answer.status != SetStateStatus.ACCEPT:
            return False
        self.api.update_flow_run(run.id, infrastructure_pid=holder(worker))
        return True

    def read(self, identities: Iterable[UUID]) -> dict[UUID, FlowRun]:
        """Return flow runs by their id; those that the server does not have are missing."""
        wanted = FlowRunFilter(id=FlowRunFilterId(any_=list(identities)))
        return {run.id: run for run in self.api.read_flow_runs(flow_run_filter=wanted, **PAGE)}

    def tell(self, identity: UUID, result: Mapping[str, str | float]) -> None:
        """Leave what came out, beside the state: a state's own data do not reach the server."""
        self.api.update_flow_run_labels(identity, dict(result))

    def set_state(self, identity: UUID, state: State[Any]) -> None:
        """Say what has become of a flow run; the last word, whatever Prefect's rules think."""
        self.api.set_flow_run_state(identity, state, force=True)

    def cancel(self, run: FlowRun) -> None:
        """Ask for the end of a stage: its worker will hear of it, unless it has none yet."""
        if run.state is None or run.state.is_final():
            return
        if run.state.is_scheduled():
            self.set_state(run.id, Cancelled(message="nobody waits for it any more"))
        elif not run.state.is_cancelling():
            self.set_state(run.id, Cancelling())

    def log(self, identity: UUID, lines: Sequence[tuple[datetime, str]]) -> None:
        """Show lines of a stage."""
        self.api.create_logs(
            {"message": text, "timestamp": at.isoformat(), "flow_run_id": str(identity), **LINE} for at, text in lines
        )

    def beat(self, worker: str) -> None:
        """Say that a worker lives."""
        self.api.send_worker_heartbeat(self.name, worker, HEARTBEAT_S)

    def alive(self, run: FlowRun) -> None:
        """Say that a stage is worked on: without that for 90 s the server shows it as crashed (`zombies`)."""
        resource = {"prefect.resource.id": f"prefect.flow-run.{run.id}", "prefect.resource.name": run.name}
        event = {"event": "prefect.flow-run.heartbeat", "id": str(uuid4()), "occurred": datetime.now(UTC).isoformat()}
        flow = zombies.related(FLOW) | {"prefect.resource.id": f"prefect.flow.{run.flow_id}"}
        self.api.request("POST", "/events", json=[event | {"resource": resource, "related": [flow]}]).raise_for_status()

    def workers(self) -> dict[str, bool]:
        """Return all workers that the pool has had, and whether each is online, by the server's clock."""
        found = self.api.read_workers_for_work_pool(self.name, limit=MANY, offset=0)
        return {each.name: each.status == WorkerStatus.ONLINE for each in found}

    def mark_lost_of(self, dead: Collection[str]) -> None:
        """Give up what ``dead`` workers had taken, so that what is shown is true; but for what this process has."""
        wanted = FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(OPEN))),
            deployment_id=FlowRunFilterDeploymentId(any_=[self.deployment()]),
        )
        for run in self.api.read_flow_runs(flow_run_filter=wanted, **PAGE) if dead else ():
            held_by = run.infrastructure_pid or ""
            if (name := worker_of(held_by)) in dead and held_by != holder(name):
                self.set_state(run.id, Crashed(message=f"{name} is silent: killed, or cut off"))

    def give_back(self, identity: UUID, message: str) -> None:
        """Let another worker have a stage."""
        self.set_state(identity, Scheduled(name="AwaitingRetry", message=message))


DESCRIPTION = "Stages of `facet run --pool`, one at a time on each worker's device. `facet worker` joins."
