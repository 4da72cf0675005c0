"""Runs that Prefect itself starts: prefect.yaml on a real server, a deployment run through the API by a real worker."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.base import environment, workspace
from pipeline.flow.run_options import RunOptions
from tests.pipeline import dummy
from tests.pipeline.asking import ask
from tests.pipeline.dummy import Dummy
from tests.support import ROOT

pytestmark = pytest.mark.slow

APPLY = "import pathlib; from pipeline.flow import deployments; print(deployments.apply(pathlib.Path.cwd()))"
WORK = (
    "import os, pathlib; from pipeline.flow import deployments; "
    "command = deployments.worker_command(pathlib.Path.cwd(), 'runs'); os.execv(command[0], [*command, '--run-once'])"
)


@pytest.fixture
def project(tmp_path: Path, api_url: str) -> Dummy:
    """A project with the repository's prefect.yaml."""
    project = dummy.make(tmp_path / "project", 2, api_url=api_url)
    (project.path / "prefect.yaml").write_text((ROOT / "prefect.yaml").read_text())
    return project


def settings(project: Dummy) -> dict[str, str]:
    return environment.prefect_settings(project.path, project.api_url)


def deployment(project: Dummy, name: str) -> Any:
    """The project's own: another project may have had the name before."""
    here = workspace.identity(project.path)
    wanted = {"flows": {"name": {"any_": ["facet run"]}}}
    (found,) = [
        each for each in ask(project.api_url, "/deployments/filter", wanted)
        if each["name"] in (name, f"{name} ({here})") and each["work_queue_name"] == workspace.queue(here)
    ]  # fmt: skip
    return found


def test_a_deployment_runs_what_it_is_asked_for_in_its_workspace(project: Dummy, api_url: str) -> None:
    project.run(sys.executable, "-c", APPLY, **settings(project))
    found = {name: deployment(project, name) for name in ("all", "table", "run")}
    assert {each["work_pool_name"] for each in found.values()} == {"runs"}
    assert set(found["table"]["parameter_openapi_schema"]["properties"]) == {
        # Prefect's UI is the board of a deployment
        "targets", "workspace", *(one.name for one in fields(RunOptions) if one.name != "plain")
    }  # fmt: skip
    (schedule,) = found["all"]["schedules"]
    assert (schedule["schedule"]["cron"], schedule["active"]) == ("0 2 * * *", False)
    asked = {"parameters": {"targets": ["r1"], "jobs": 2}}
    run = ask(api_url, f"/deployments/{found['run']['id']}/create_flow_run", asked)
    project.run(sys.executable, "-c", WORK, **settings(project))
    state = ask(api_url, f"/flow_runs/{run['id']}")
    assert (state["name"], state["state"]["type"], state["state"]["message"]) == ("r1", "COMPLETED", "4 executed")
    assert set(project.counts()) == {"resolve", "unpack", "train_backbone@r1", "evaluate_hq@r1"}
    assert project.last_run()["flow_run_id"] == run["id"]


def test_a_schedule_that_was_switched_on_in_the_ui_stays_so(project: Dummy, api_url: str) -> None:
    project.run(sys.executable, "-c", APPLY, **settings(project))
    (schedule,) = deployment(project, "all")["schedules"]
    path = f"/deployments/{deployment(project, 'all')['id']}/schedules/{schedule['id']}"


    httpx.patch(api_url + path, json={"active": True}, timeout=30).raise_for_status()
    project.run(sys.executable, "-c", APPLY, **settings(project))
    assert [each["active"] for each in deployment(project, "all")["schedules"]] == [True]
    httpx.patch(api_url + path, json={"active": False}, timeout=30).raise_for_status()


def test_another_workspaces_deployments_stay_as_they_are(project: Dummy, api_url: str, tmp_path: Path) -> None:
    other = dummy.make(tmp_path / "other", 1, api_url=api_url)
    (other.path / "prefect.yaml").write_text((ROOT / "prefect.yaml").read_text())
    project.run(sys.executable, "-c", APPLY, **settings(project))
    before = deployment(project, "all")
    for _ in range(2):
        other.run(sys.executable, "-c", APPLY, **settings(other))
    assert deployment(project, "all") == before
    (step,) = deployment(other, "all")["pull_steps"]
    assert step["prefect.deployments.steps.set_working_directory"] == {"directory": str(other.path)}
