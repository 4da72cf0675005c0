"""Tells Prefect's server how flow runs ended of which it may not know: it was away, or their process was killed.

What the server knows better stays: only what runs for ever there, or was taken for crashed, is put right.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State, StateType, TaskRun
from prefect.client.schemas.sorting import TaskRunSort
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.logging import get_logger
from prefect.states import Crashed

from pipeline import prefect_run, records, zombies
from pipeline.records import FlowRun, Task

PAGE = 200
KILLED = zombies.MESSAGE


def settle_all(root: Path) -> None:
    """Settle every flow run of a project that has ended; what cannot be settled now waits for the next time."""
    for one in records.unsettled(root):
        try:
            settle(one)
        except (httpx.HTTPError, PrefectException) as error:
            get_logger("facet").warning("Prefect could not be told how flow run %s ended: %s", one.flow_run_id, error)
            if isinstance(error, httpx.HTTPStatusError):
                continue  # it answers: what it does not take of one run is no reason to keep the others from it
            return
        records.forget(root, one)


def settle(one: FlowRun) -> None:
    """Have the server show how a flow run and its tasks ended.

    Raises:
        httpx.HTTPError, PrefectException: the server is away, or does not take it.
    """
    identity = UUID(one.flow_run_id)
    with get_client(sync_client=True) as client:
        try:
            shown = client.read_flow_run(identity)
        except ObjectNotFound:
            return  # another server's, perhaps
        state = shown.state
        if len(shown.tags) > prefect_run.MAX_TAGS:  # of an earlier version, which could not end it for that
            prefect_run.tag(identity, shown.tags)
        if state is None or not state.is_final() or (one.state and state.is_crashed()):
            ended = State(type=StateType(one.state), message=one.message) if one.state else Crashed(message=KILLED)
            client.set_flow_run_state(identity, ended, force=True)
        there = {str(task.id): task for task in _tasks(client, identity)}
        for known in one.tasks:
            _settle_task(client, identity, known, there.pop(known.id, None))
        for task in there.values():
            if task.state is None or not task.state.is_final():
                client.set_task_run_state(task.id, Crashed(message=KILLED), force=True)


def _tasks(client: SyncPrefectClient, flow_run: UUID) -> Iterator[TaskRun]:
    """Yield what the server has of a flow run's tasks; it answers by the page."""
    wanted = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run]))
    offset = 0
    while page := client.read_task_runs(
        flow_run_filter=wanted, sort=TaskRunSort.ID_DESC, limit=PAGE, offset=offset
    ):
        yield from page
        offset += len(page)


def _settle_task(client: SyncPrefectClient, flow_run: UUID, known: Task, there: TaskRun | None) -> None:
    state = State(type=StateType(known.state), name=known.state_name, message=known.message)
    if there is None:
        # the server never heard of it
        body = {
            "id": known.id, "name": known.name, "flow_run_id": str(flow_run), "task_key": known.name,
            "dynamic_key": known.id, "tags": list(known.tags),
            "state": {"type": known.state, "name": known.state_name, "message": known.message},
        }  # fmt: skip
        client.request("POST", "/task_runs/", json=body).raise_for_status()
    elif there.state is None or not there.state.is_final():
        client.set_task_run_state(there.id, state, force=True)
