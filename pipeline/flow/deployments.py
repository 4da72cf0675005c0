"""Creates the deployments of prefect.yaml: `prefect deploy --all` of 3.8.8 makes only the first, then fails.

A deployment runs in this workspace, by a worker of Prefect's own that `facet up` starts here: its queue bears the
workspace's name, so that several workspaces may share a server. The first one's deployments are called as in
prefect.yaml, those of others have their workspace's name behind it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectNotFound
from prefect.utilities.callables import parameter_schema

from pipeline.base import environment, workspace
from pipeline.servers import daemons
from pipeline.workers.prefect_worker import PROMPT, START
from pipeline.workers.work_pool import make_pool
from stages.core.errors import InputError
from stages.runtime import yaml_text

FLOW = "facet run"
AT_ONCE = 2
"""Maximum number of flow runs at a time in one workspace: runs that need the same stage wait for each other."""


def up(root: Path, api_url: str, say: Callable[[str], None]) -> None:
    """Create the deployments of prefect.yaml on the server and start their worker."""
    for pool in apply(root):
        name = f"{daemons.WORKER} of deployments in {pool}"
        if name not in daemons.known(root):
            settings = environment.for_children() | environment.prefect_settings(root, api_url) | PROMPT
            daemons.add(root, name, worker_command(root, pool), settings)
            say(f"{daemons.WORKER:8} runs deployments from the work pool {pool}")


def apply(root: Path) -> list[str]:
    """Create the deployments of prefect.yaml and their work pools; return the pools.

    What is there already stays, with the schedules that somebody switched on in the UI, unless prefect.yaml has
    changed since.

    Raises:
        ValueError: prefect.yaml says something else than deployments of our flow.
    """
    path = root / "prefect.yaml"
    if not path.is_file():
        return []
    entries = yaml_text.read(path).get("deployments") or []
    with get_client(sync_client=True) as api:
        pools = sorted({entry["work_pool"]["name"] for entry in entries})
        for pool in pools:
            make_pool(api, pool, workspace.queue(workspace.identity(root)))
        flow = api.create_flow_from_name(FLOW)
        for entry in entries:
            _apply(api, root, flow, entry)
    return pools


def worker_command(root: Path, pool: str) -> list[str]:
    """Return the command line of the worker that runs deployments in this workspace."""
    here = workspace.identity(root)
    name = workspace.worker_name("runs", here)
    return [*START, "--pool", pool, "--work-queue", workspace.queue(here), "--name", name, "--limit", str(AT_ONCE)]


def _apply(api: SyncPrefectClient, root: Path, flow: UUID, entry: Mapping[str, Any]) -> None:
    from pipeline.flow import facet_run

    wanted = f"{facet_run.__name__}.{facet_run.facet_run.fn.__name__}"
    if entry["entrypoint"] != wanted:
        raise InputError(f"prefect.yaml, {entry['name']}: entrypoint is {entry['entrypoint']}, but should be {wanted}")
    version = hashlib.sha256(json.dumps([entry, str(root)], sort_keys=True).encode()).hexdigest()[:12]
    name, there = _own_name(api, entry["name"], workspace.identity(root))
    if there == version:
        return
    api.create_deployment(
        flow_id=flow,
        name=name,
        version=version,
        description=entry.get("description"),
        parameters=entry.get("parameters"),
        tags=entry.get("tags"),
        work_pool_name=entry["work_pool"]["name"],
        work_queue_name=workspace.queue(workspace.identity(root)),
        entrypoint=entry["entrypoint"],
        # absolute: the worker runs it in a folder of its own otherwise
        pull_steps=[{"prefect.deployments.steps.set_working_directory": {"directory": str(root)}}],
        parameter_openapi_schema=parameter_schema(facet_run.facet_run).model_dump(),
        enforce_parameter_schema=True,
        schedules=[_schedule(each) for each in entry.get("schedules") or ()],
    )


def _own_name(api: SyncPrefectClient, name: str, here: str) -> tuple[str, str | None]:
    """Return what a deployment is called, and the version that is there; another workspace's of that name stays."""
    version = None
    for own in (name, f"{name} ({here})"):
        try:
            found = api.read_deployment_by_name(f"{FLOW}/{own}")
        except ObjectNotFound:
            return own, None
        version = found.version
        if found.work_queue_name == workspace.queue(here):
            break
    return own, version


def _schedule(entry: Mapping[str, Any]) -> DeploymentScheduleCreate:
    cron = CronSchedule(cron=entry["cron"], timezone=entry.get("timezone"))
    return DeploymentScheduleCreate(schedule=cron, active=entry.get("active", True))
