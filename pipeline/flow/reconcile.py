"""Reports to Prefect's server how flow runs ended of which it may not know: it was away, or their process was killed.

What the server knows better stays: only what runs for ever there, or was taken for crashed, is put right. Task runs
stay as the server last heard of them: how stages ended is in DVC's lock files.
"""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, StateType
from prefect.exceptions import ObjectNotFound
from prefect.logging import get_logger
from prefect.states import Crashed

from pipeline.execution import history
from pipeline.execution.history import FlowRun
from pipeline.servers import crash_automation, flow_run_requests


def settle_all(root: Path) -> None:
    """Settle every ended flow run of a project; those that cannot be settled now are tried again next time."""
    for one in history.unsettled(root):
        try:
            settle(one)
        except flow_run_requests.AWAY as error:
            get_logger("facet").warning("could not report to Prefect how flow run %s ended: %s", one.flow_run_id, error)
            if isinstance(error, httpx.HTTPStatusError):
                continue  # it answers: what it does not take of one run is no reason to keep the others from it
            return
        history.forget(root, one)


def settle(one: FlowRun) -> None:
    """Have the server show how a flow run ended.

    Raises:
        flow_run_requests.AWAY: the server is away, or does not take it.
    """
    identity = UUID(one.flow_run_id)
    with get_client(sync_client=True) as client:
        try:
            shown = client.read_flow_run(identity)
        except ObjectNotFound:
            return  # another server's, perhaps
        state = shown.state
        if len(shown.tags) > flow_run_requests.MAX_TAGS:  # of an earlier version, which could not end it for that
            flow_run_requests.tag(identity, shown.tags)
        if state is None or not state.is_final() or (one.state and state.is_crashed()):
            known = State(type=StateType(one.state), message=one.message) if one.state else None
            client.set_flow_run_state(identity, known or Crashed(message=crash_automation.MESSAGE), force=True)
