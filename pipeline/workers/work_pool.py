"""A Prefect work pool through Prefect's API: a training run is a flow run of one deployment, for Prefect's workers.

A server that is away is waited for: `patiently`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, State, WorkerStatus
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectAlreadyExists
from prefect.states import Cancelled, Cancelling
from prefect.workers.process import ProcessWorker

from pipeline.base import environment
from pipeline.servers.flow_run_requests import AWAY

T = TypeVar("T")

FLOW = "facet training run"
ENTRYPOINT = "pipeline.flow.training_run.training_run"
PULL = "pipeline.workers.prefect_worker.enter_project"
DESCRIPTION = "Training runs of `facet run --pool`, each with its evaluations; do not start them by hand."
NOT_WANTED = "the run that sent it was stopped"
WITHDRAWN = "facet.withdrawn"
ANY_QUEUE = "default"
ENGINE = "python -m prefect.engine"
MANY = 200
# older servers refuse the client's own defaults
PAGE: dict[str, Any] = {"limit": MANY, "offset": 0, "sort": FlowRunSort.ID_DESC}


def patiently(ask: Callable[[], T], stop: Callable[[], bool] = lambda: False, pause_s: float = 1.0) -> T:
    """Repeat a request until the server answers.

    Raises:
        PrefectException: it answers that it will not.
    """
    while True:
        try:
            return ask()
        except AWAY as error:
            if stop() or not _is_away(error):
                raise
            time.sleep(pause_s)


def _is_away(error: Exception) -> bool:
    """Return whether repeating the request may help when the server is back."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code >= 500 or error.response.status_code in (408, 429)
    return isinstance(error, httpx.TransportError)


def make_pool(api: SyncPrefectClient, name: str, queue: str) -> None:
    """Create a work pool for workers of the type `process`, and a queue of it, where they are missing."""
    template = ProcessWorker.get_default_base_job_template()
    # where a pool names no command, its workers start Prefect twice for each flow run: first for the pull steps alone
    template["variables"]["properties"]["command"]["default"] = ENGINE
    with contextlib.suppress(ObjectAlreadyExists):
        api.create_work_pool(WorkPoolCreate(name=name, type="process", base_job_template=template))
    with contextlib.suppress(ObjectAlreadyExists):
        api.create_work_queue(queue, work_pool_name=name)


def queue_for(devices: int) -> str:
    """Return the queue for training runs that need so many devices of one machine.

    >>> queue_for(1), queue_for(8)
    ('default', 'devices-8')
    """
    return ANY_QUEUE if devices == 1 else f"devices-{devices}"


class Training:
    """A work pool whose workers execute training runs; each thread needs its own."""

    def __init__(self, pool: str) -> None:
        self.name = pool
        self.api = get_client(sync_client=True)

    def prepare(self) -> UUID:
        """Create the pool and the deployment, where they are missing; return the latter."""
        make_pool(self.api, self.name, ANY_QUEUE)
        settings = environment.QUIET | environment.flow_settings()
        return self.api.create_deployment(
            flow_id=self.api.create_flow_from_name(FLOW),
            name=f"training run in {self.name}",
            work_pool_name=self.name,
            description=DESCRIPTION,
            entrypoint=ENTRYPOINT,
            pull_steps=[{PULL: {}}],
            # a training run whose output goes through its worker would end with it
            job_variables={"env": settings, "stream_output": False},
            enforce_parameter_schema=False,
            parameter_openapi_schema={"type": "object", "properties": {}},
        )

    def submit(
        self, deployment: UUID, name: str, request: Mapping[str, Any], devices: int, code: Mapping[str, str]
    ) -> FlowRun:
        """Queue a training run; return its flow run, or the one that is queued or running for the same request.

        Args:
            deployment: as `prepare` returned it.
            name: of the training run.
            request: what is to be done, the same for all that want the same.
            devices: that it needs on one machine.
            code: where a worker gets the code, which may differ.
        """
        digest = hashlib.sha256(json.dumps([name, request], sort_keys=True).encode()).hexdigest()[:16]
        for number in range(MANY):
            run = self.api.create_flow_run_from_deployment(
                deployment,
                parameters={"request": {**request, **code}},
                name=name,
                tags=[f"run:{name}"],
                work_queue_name=queue_for(devices),
                idempotency_key=f"{digest}-{number}",
            )
            # one that has ended is history: it failed, was cancelled, or its results are no longer on the remote
            if run.state is None or not run.state.is_final():
                break
        return run

    def read(self, identities: Iterable[UUID]) -> dict[UUID, FlowRun]:
        """Return flow runs by their id; those that the server does not have are left out."""
        wanted = FlowRunFilter(id=FlowRunFilterId(any_=list(identities)))
        return {run.id: run for run in self.api.read_flow_runs(flow_run_filter=wanted, **PAGE)}

    def cancel(self, identity: UUID) -> None:
        """Request the end of a training run; its worker learns of it, unless it has none yet."""
        state = self.api.read_flow_run(identity).state
        if state is None or state.is_final() or state.is_cancelling():
            return
        # others may wait for it too
        self.api.update_flow_run_labels(identity, {WITHDRAWN: "yes"})
        ended: State[Any] = Cancelled(message=NOT_WANTED) if state.is_scheduled() else Cancelling(message=NOT_WANTED)
        self.api.set_flow_run_state(identity, ended, force=True)

    def has_workers(self) -> bool:
        """Return whether a worker of the pool is online."""
        found = self.api.read_workers_for_work_pool(self.name, limit=MANY, offset=0)
        return any(each.status == WorkerStatus.ONLINE for each in found)
