"""The automation that marks dead flow runs, on a real Prefect server with a login that other people use too."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from pipeline.flow import deployments, facet_run
from pipeline.servers import crash_automation, servers
from pipeline.workers import work_pool
from tests.pipeline.dummy import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LOGIN = "admin:secret"
BEAT = "prefect.flow-run.heartbeat"
SILENT_S = 10.0  # the least that Prefect takes
PREVIOUS: dict[str, Any] = crash_automation.automation() | {
    "description": "Its process was killed, or its machine died. The next `facet run` goes on where it was.",
    "trigger": crash_automation.automation()["trigger"] | {"match_related": {}, "within": 90},
}


@pytest.fixture(scope="module")
def shared_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with a login, started as `facet up` does; MLflow's is elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_SERVER_API_AUTH_STRING", LOGIN)
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        patch.delenv("PREFECT_API_URL", raising=False)
        root = tmp_path_factory.mktemp("shared")
        said: list[str] = []
        started = servers.up(root, said.append, ports={servers.PREFECT: 0, servers.MLFLOW: 0})
        url = started[servers.PREFECT].url + "/api"
        assert not [line for line in said if "login" in line], said
        assert len(ours(url)) == 1, "made with the login of the server that was started"
        yield url
        servers.down(root)


@pytest.fixture
def api(shared_api: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The server, without any automation of ours; the login is in the environment as for Prefect's client."""
    monkeypatch.delenv("PREFECT_SERVER_API_AUTH_STRING", raising=False)
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", LOGIN)
    for one in ours(shared_api):
        crash_automation.ask(f"{shared_api}/automations/{one['id']}", "DELETE")
    return shared_api


def ask(url: str, body: Any) -> Any:
    return crash_automation.ask(url, "POST", body)


def ours(api: str) -> list[dict[str, Any]]:
    return ask(f"{api}/automations/filter", {"automations": {"name": {"any_": [crash_automation.NAME]}}})


def begin(api: str, flow: str, *, beats: bool = True) -> dict[str, Any]:
    """Begin a flow run, and let its heart beat once."""
    flow_id = ask(f"{api}/flows/", {"name": flow})["id"]
    run = ask(f"{api}/flow_runs/", {"flow_id": flow_id, "name": f"of {flow}", "state": {"type": "RUNNING"}})
    own = {"prefect.resource.id": f"prefect.flow.{flow_id}", "prefect.resource.role": "flow", "prefect.resource.name": flow}
    event = {
        "event": BEAT, "id": str(uuid4()), "occurred": datetime.now(UTC).isoformat(), "related": [own],
        "resource": {"prefect.resource.id": f"prefect.flow-run.{run['id']}", "prefect.resource.name": run["name"]},
    }  # fmt: skip
    if beats:
        ask(f"{api}/events", [event])
    return run


def state(api: str, run: dict[str, Any]) -> str:
    return crash_automation.ask(f"{api}/flow_runs/{run['id']}", "GET")["state"]["type"]


def test_only_facets_own_silent_flow_runs_are_marked(api: str) -> None:
    crash_automation.ensure(api, SILENT_S)
    theirs = begin(api, "somebody else's")
    paused = begin(api, "facet run")
    ask(f"{api}/flow_runs/{paused['id']}/set_state", {"state": {"type": "PAUSED", "name": "Suspended"}, "force": True})
    for flow in crash_automation.FLOWS:  # the second one's silence begins when the first one's is over
        dead = begin(api, flow)
        wait_until(lambda dead=dead: state(api, dead) == "CRASHED", 120)
        assert crash_automation.ask(f"{api}/flow_runs/{dead['id']}", "GET")["state"]["message"] == crash_automation.MESSAGE
    assert state(api, theirs) == "RUNNING"
    assert state(api, paused) == "PAUSED"


def test_the_flows_that_are_watched_are_those_that_facet_has() -> None:
    assert (facet_run.facet_run.name, work_pool.FLOW) == crash_automation.FLOWS
    assert deployments.FLOW in crash_automation.FLOWS


def test_an_earlier_versions_automation_is_replaced_and_stays_off_if_it_was(api: str) -> None:
    ask(f"{api}/automations/", PREVIOUS | {"enabled": False})
    crash_automation.ensure(api)
    (one,) = ours(api)
    assert one["trigger"]["match_related"]["prefect.resource.name"] == list(crash_automation.FLOWS)
    assert one["enabled"] is False


def test_two_projects_keep_one_automation_and_do_not_write_it_by_turns(api: str) -> None:
    for tree in (PREVIOUS, crash_automation.automation(), crash_automation.automation()):
        ask(f"{api}/automations/", tree)
    crash_automation.ensure(api)
    (before,) = ours(api)
    crash_automation.ensure(api)
    assert ours(api) == [before]
    assert before["trigger"]["match_related"]


def test_a_later_versions_automation_is_left_as_it_is(api: str) -> None:
    later = crash_automation.automation() | {"description": f"of tomorrow (version {crash_automation.VERSION + 1})"}
    ask(f"{api}/automations/", later)
    (before,) = ours(api)
    crash_automation.ensure(api)
    assert ours(api) == [before]


def trigger_of(automation: dict[str, Any]) -> dict[str, Any]:
    """Return the trigger, with events in one order: the server keeps them as a set."""
    trigger = automation["trigger"]
    return trigger | {name: sorted(trigger[name]) for name in ("after", "expect")}


def test_other_peoples_automations_stay(api: str) -> None:
    theirs = ask(f"{api}/automations/", PREVIOUS | {"name": "a watch of theirs"})
    crash_automation.ensure(api)
    assert trigger_of(crash_automation.ask(f"{api}/automations/{theirs['id']}", "GET")) == trigger_of(theirs)
    crash_automation.ask(f"{api}/automations/{theirs['id']}", "DELETE")


def test_a_login_that_is_missing_is_said_in_a_sentence(api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_AUTH_STRING")
    said: list[str] = []
    crash_automation.watch(api, said.append)
    (line,) = said
    assert line.startswith(f"{api} wants a login (status 401), so a flow run whose process is killed")
    assert "PREFECT_API_AUTH_STRING" in line
    assert LOGIN not in line


def test_facet_up_puts_it_on_a_server_that_is_somebody_elses(
    api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", api)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    said: list[str] = []
    assert servers.up(tmp_path, said.append) == {}
    assert (len(ours(api)), said) == (1, [])
