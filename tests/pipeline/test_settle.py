"""What Prefect's server missed is put right as it was: a real flow on a real server, which misses nothing by itself."""

from __future__ import annotations

import sys
from pathlib import Path

import httpx
import pytest

from pipeline import records, settle
from tests.pipeline import dummy
from tests.pipeline.asking import task_runs

pytestmark = pytest.mark.slow

# a run whose recording in MLflow ends well; then the server is put back to where it had not heard of the end
RUN = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from uuid import UUID
from prefect.client.orchestration import get_client
from prefect.states import Running
from pipeline import flows, recording, records, settle
from pipeline.execute import Executor
from pipeline.flow_work import TRACK, Prepared

recording.track = lambda *arguments: int(sys.argv[1])
root = Path.cwd()
executor = Executor(root, 1)
prepared = Prepared(root, executor, executor.read_graph())
flows.run(prepared, ["r0"], 1)
executor.close()
ended = prepared.ended
with get_client(sync_client=True) as client:
    for task in settle._tasks(client, UUID(ended.flow_run_id)):
        client.set_task_run_state(task.id, Running(), force=True)
settle.settle(ended)
print(ended.flow_run_id)
"""


@pytest.mark.parametrize(("code", "state"), [(0, "COMPLETED"), (1, "FAILED")])
def test_recording_that_ended_is_shown_so_though_the_server_missed_its_end(
    tmp_path: Path, api_url: str, code: int, state: str
) -> None:
    project = dummy.make(tmp_path / "project", 1, api_url=api_url)
    said = project.run(sys.executable, "-c", RUN, str(code)).stdout
    shown = task_runs(api_url, said.splitlines()[-1])
    assert {name: run["state_type"] for name, run in shown.items() if name != "track"} == dict.fromkeys(
        ("resolve", "unpack", "train_backbone@r0", "evaluate_hq@r0"), "COMPLETED"
    )
    assert shown["track"]["state_type"] == state, shown["track"]["state"]


# a run whose process is gone, with more tags than the server takes in the event of a change of state. It takes them for
# a minute after it has seen the run without, so what is asserted is that they were taken away
MANY = """
from pathlib import Path
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.states import Running
from pipeline import records, settle

@flow
def nothing():
    pass

with get_client(sync_client=True) as client:
    one = client.create_flow_run(nothing, state=Running())
    client.update_flow_run(one.id, tags=["table:t", *(f"run:r{i}" for i in range(130))])
    records.write_open(Path.cwd(), records.FlowRun(str(one.id), 1, 0.0))
    settle.settle_all(Path.cwd())
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
        records.write_open(tmp_path, records.FlowRun(name, 1, 0.0))
    asked = []

    def answer(one: records.FlowRun) -> None:
        asked.append(one.flow_run_id)
        if one.flow_run_id != "c":
            request = httpx.Request("POST", "http://server")
            raise httpx.HTTPStatusError("500", request=request, response=httpx.Response(500, request=request))

    monkeypatch.setattr(settle, "settle", answer)
    settle.settle_all(tmp_path)
    assert sorted(asked) == ["a", "b", "c"]
    assert sorted(one.flow_run_id for one in records.unsettled(tmp_path)) == ["a", "b"]
