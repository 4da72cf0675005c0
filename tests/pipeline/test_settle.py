"""What Prefect's server missed is put right as it was: a real flow on a real server, which misses nothing by itself."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

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
