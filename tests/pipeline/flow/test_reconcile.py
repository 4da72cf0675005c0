"""How a flow run ended which Prefect's server missed is put right, on a real server."""

from __future__ import annotations

import sys
from pathlib import Path

import httpx
import pytest

from pipeline.execution import history
from pipeline.flow import reconcile
from tests.pipeline import dummy

pytestmark = pytest.mark.slow

# flow runs as the server has them, and what the project's record of each says
ENDED = """
from pathlib import Path
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.states import Cancelled, Crashed, Running
from pipeline.execution import history; from pipeline.flow import reconcile

@flow
def nothing():
    pass

with get_client(sync_client=True) as client:
    ids = [client.create_flow_run(nothing, state=state).id for state in (Running(), Crashed(), Cancelled())]
    for one in ids:
        history.write_open(Path.cwd(), history.FlowRun(str(one), 1, 0.0, "COMPLETED", "3 executed"))
    reconcile.settle_all(Path.cwd())
    print(*(client.read_flow_run(one).state.type.value for one in ids), len(history.unsettled(Path.cwd())))
"""


def test_a_run_whose_end_the_server_missed_or_took_for_a_crash_is_shown_as_it_ended(
    tmp_path: Path, api_url: str
) -> None:
    project = dummy.make(tmp_path / "project", 1, api_url=api_url)
    answer = project.run(sys.executable, "-c", ENDED).stdout.splitlines()[-1]
    assert answer == "COMPLETED COMPLETED CANCELLED 0"  # what a person wanted stays


# a run whose process is gone, with more tags than the server takes in the event of a change of state. It takes them for
# a minute after it has seen the run without, so what is asserted is that they were taken away
MANY = """
from pathlib import Path
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.states import Running
from pipeline.execution import history; from pipeline.flow import reconcile

@flow
def nothing():
    pass

with get_client(sync_client=True) as client:
    one = client.create_flow_run(nothing, state=Running())
    client.update_flow_run(one.id, tags=["table:t", *(f"run:r{i}" for i in range(130))])
    history.write_open(Path.cwd(), history.FlowRun(str(one.id), 1, 0.0))
    reconcile.settle_all(Path.cwd())
    shown = client.read_flow_run(one.id)
    print(shown.state.type.value, *shown.tags)
"""


def test_a_run_with_more_tags_than_the_server_takes_loses_those_that_its_tasks_have(
    tmp_path: Path, api_url: str
) -> None:
    project = dummy.make(tmp_path / "project", 1, api_url=api_url)
    assert project.run(sys.executable, "-c", MANY).stdout.splitlines()[-1] == "CRASHED table:t"


def test_a_run_that_the_server_refuses_keeps_no_other_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        history.write_open(tmp_path, history.FlowRun(name, 1, 0.0))
    asked = []

    def answer(one: history.FlowRun) -> None:
        asked.append(one.flow_run_id)
        if one.flow_run_id != "c":
            request = httpx.Request("POST", "http://server")
            raise httpx.HTTPStatusError("500", request=request, response=httpx.Response(500, request=request))

    monkeypatch.setattr(reconcile, "settle", answer)
    reconcile.settle_all(tmp_path)
    assert sorted(asked) == ["a", "b", "c"]
    assert sorted(one.flow_run_id for one in history.unsettled(tmp_path)) == ["a", "b"]
