"""Whole runs of `facet run` on real DVC projects, recorded by a real Prefect server."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from pipeline.servers.servers import Service
from tests.pipeline import dummy
from tests.pipeline.asking import ask, task_runs
from tests.pipeline.dummy import Dummy

pytestmark = pytest.mark.slow

RUNS = 5
EVERYTHING = {
    "resolve",
    "unpack",
    "tabulate@heads",
    *(f"train_backbone@r{i}" for i in range(RUNS)),
    *(f"evaluate_hq@r{i}" for i in range(RUNS)),
}


@pytest.fixture
def project(tmp_path: Path, api_url: str) -> Dummy:
    """A small project."""
    return dummy.make(tmp_path / "project", runs=2, api_url=api_url)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, api_url: str) -> Dummy:
    """A larger project after one parallel run; tests that share it only look."""
    path = tmp_path_factory.mktemp("finished") / "project"
    seconds = {"train_backbone": 0.8, "evaluate_hq": 0.4}
    project = dummy.make(path, RUNS, seconds, api_url)
    project.facet("run", "--jobs", "4", "--no-track")
    return project


def test_every_stage_ran_once_and_every_lock_entry_is_there(finished: Dummy) -> None:
    assert finished.counts() == dict.fromkeys(EVERYTHING, 1)
    assert finished.lock_entries() == EVERYTHING
    assert finished.run("dvc", "status").stdout.strip() == "Data and pipelines are up to date."


def test_stages_overlapped_on_devices_of_their_own(finished: Dummy) -> None:
    ends = {entry["stage"]: entry["time"] for entry in finished.journal("end")}
    spans = [(entry["time"], ends[entry["stage"]], entry["device"]) for entry in finished.journal()]
    assert {device for _, _, device in spans} <= {f"cpu:{i}" for i in range(4)}
    most = 0
    for start, _, _ in spans:
        now = [device for began, ended, device in spans if began <= start < ended]
        assert len(now) == len(set(now))
        most = max(most, len(now))
    assert 2 <= most <= 4


def test_stages_ran_in_dependency_order(finished: Dummy) -> None:
    starts = {entry["stage"]: entry["time"] for entry in finished.journal()}
    ends = {entry["stage"]: entry["time"] for entry in finished.journal("end")}
    for i in range(RUNS):
        assert ends["unpack"] < starts[f"train_backbone@r{i}"]
        assert ends[f"train_backbone@r{i}"] < starts[f"evaluate_hq@r{i}"]
        assert ends[f"evaluate_hq@r{i}"] < starts["tabulate@heads"]


def test_prefect_shows_one_task_run_per_stage_with_its_name_and_tags(finished: Dummy, api_url: str) -> None:
    identity = finished.last_run()["flow_run_id"]
    flow_run = ask(api_url, f"/flow_runs/{identity}")
    assert (flow_run["name"], flow_run["state"]["type"]) == ("all", "COMPLETED")
    assert set(flow_run["tags"]) == {"table:heads", *(f"run:r{i}" for i in range(RUNS))}
    runs = task_runs(api_url, identity)
    assert set(runs) == EVERYTHING
    assert {run["state_type"] for run in runs.values()} == {"COMPLETED"}
    tags = set(runs["train_backbone@r3"]["tags"])
    assert tags >= {"run:r3", "table:heads"}
    assert len([tag for tag in tags if tag.startswith("device:cpu:")]) == 1


def test_prefect_has_the_lines_of_each_stage_on_its_task(finished: Dummy, api_url: str) -> None:
    runs = task_runs(api_url, finished.last_run()["flow_run_id"])
    for stage in EVERYTHING:
        wanted = {"logs": {"task_run_id": {"any_": [runs[stage]["id"]]}}, "limit": 200}
        messages = [log["message"] for log in ask(api_url, "/logs/filter", wanted)]
        assert {f"{stage} begins", f"{stage} ends"} <= set(messages)


def test_the_log_of_a_flow_run_tells_what_happened_in_a_line_each(finished: Dummy, api_url: str) -> None:
    wanted = {"logs": {"flow_run_id": {"any_": [finished.last_run()["flow_run_id"]]}}, "limit": 200, "sort": "TIMESTAMP_ASC"}
    messages = [log["message"] for log in ask(api_url, "/logs/filter", wanted)]
    assert messages[1] == "13 stages to run: unpack, resolve, 5 train_backbone, 5 evaluate_hq, tabulate"
    begins = [line.split()[0] for line in messages if re.fullmatch(r"\S+ begins on cpu:\d(, usually 0:\d\d)?", line)]
    ends = [line.split()[0] for line in messages if re.fullmatch(r"(\S+) executed in 0:0\d: \1 ends", line)]
    assert Counter(begins) == Counter(ends) == Counter(EVERYTHING)
    # beside these: Prefect's first and last line, what is to run, and again once `resolve` has said so
    assert len(messages) == 2 * len(EVERYTHING) + 4, messages
    assert messages[-1].startswith("Finished in state Completed('13 executed')")


def test_a_run_leaves_the_tables_and_its_stages_as_artifacts(finished: Dummy, api_url: str) -> None:
    identity = finished.last_run()["flow_run_id"]
    wanted = {"artifacts": {"flow_run_id": {"any_": [identity]}}}
    artifacts = {item["key"]: item for item in ask(api_url, "/artifacts/filter", wanted) if item["key"]}
    assert "| heads |" in artifacts["tables"]["data"]
    stages = {row["stage"]: row for row in json.loads(artifacts["stages"]["data"])}
    assert set(stages) == EVERYTHING
    assert float(stages["train_backbone@r0"]["seconds"]) >= 0.8


def test_the_page_of_a_flow_run_begins_with_what_will_run_and_how_long_that_takes(project: Dummy, api_url: str) -> None:
    project.slow_down(train_backbone=2)
    project.facet("run", "--no-track")
    project.edit("r1", margin=0.9)
    project.forget_journal()
    run = project.start("run", "--no-track")
    try:
        project.wait_for("train_backbone@r1")
        wanted = {"artifacts": {"flow_run_id": {"any_": [newest(api_url)]}}}
        found = {item["key"]: item for item in ask(api_url, "/artifacts/filter", wanted)}
    finally:
        assert run.wait(timeout=60) == 0
    rows = {row["stage"]: row for row in json.loads(found["stages"]["data"])}
    assert {"train_backbone@r1", "evaluate_hq@r1", "tabulate@heads"} <= set(rows)
    assert rows["train_backbone@r1"]["expected"] in ("0:02", "0:03")
    assert rows["tabulate@heads"]["state"] == "waiting"
    assert "tables" not in found


def newest(api_url: str) -> str:
    """Return the ID of the flow run that was started last."""
    (run,) = ask(api_url, "/flow_runs/filter", {"sort": "START_TIME_DESC", "limit": 1})
    return str(run["id"])


def test_a_second_run_does_nothing_and_says_so(finished: Dummy, api_url: str) -> None:
    before = ask(api_url, "/flow_runs/count", {})
    answer = finished.facet("run")
    assert answer.stdout == "nothing to do: 13 stages are up to date\n"
    assert ask(api_url, "/flow_runs/count", {}) == before
    assert finished.counts() == dict.fromkeys(EVERYTHING, 1)


def test_an_edit_of_one_run_reruns_that_run_only(project: Dummy, api_url: str) -> None:
    project.facet("run", "--no-track")
    project.forget_journal()
    project.edit("r1", margin=0.9)
    answer = project.facet("run", "heads", "--no-track")
    # the dummy's evaluation is the same again, which DVC notices in time
    assert project.counts() == {"resolve": 1, "train_backbone@r1": 1}
    assert "completed - 2 executed; 2 unchanged" in answer.stdout
    runs = task_runs(api_url, project.last_run()["flow_run_id"])
    states = {name: run["state_name"] for name, run in runs.items()}
    assert states == {
        "resolve": "Completed",
        "train_backbone@r1": "Completed",
        "evaluate_hq@r1": "Unchanged",
        "tabulate@heads": "Unchanged",
    }
    assert project.last_run()["name"] == "heads"


def test_a_failure_stops_only_what_needs_it(project: Dummy, api_url: str) -> None:
    project.tell_to("fail", "train_backbone@r0")
    answer = project.facet("run", "--jobs", "2", "--no-track", code=1)
    assert project.counts("end") == dict.fromkeys(
        ["resolve", "unpack", "train_backbone@r1", "evaluate_hq@r1"], 1
    )
    message = (
        "failed: train_backbone@r0; skipped, because they need it: evaluate_hq@r0, tabulate@heads; 4 executed"
    )
    assert f"failed - {message}" in answer.stdout
    assert "NoneType" not in answer.stdout + answer.stderr
    log = project.path / ".facet/logs/train_backbone@r0.log"
    assert f"  train_backbone@r0: error: train_backbone@r0 was told to fail (exited with 2); see {log}\n" in answer.stdout
    assert "was told to fail" in log.read_text()
    identity = project.last_run()["flow_run_id"]
    state = ask(api_url, f"/flow_runs/{identity}")["state"]
    assert (state["type"], state["message"]) == ("FAILED", message)
    runs = task_runs(api_url, identity)
    assert runs["train_backbone@r0"]["state"]["message"].startswith(
        "error: train_backbone@r0 was told to fail"
    )
    for name in ("evaluate_hq@r0", "tabulate@heads"):
        assert runs[name]["state_name"] == "Skipped"
        assert runs[name]["state"]["message"] == "needs train_backbone@r0, which did not end well"
    assert (
        "train_backbone@r0  failed   error: train_backbone@r0 was told to fail"
        in project.facet("status").stdout
    )
    (project.path / "fail/train_backbone@r0").unlink()
    project.facet("run", "--no-track")
    assert project.lock_entries() == {name for name in EVERYTHING if name[-2:] not in ("r2", "r3", "r4")}


def test_a_failed_resolve_stops_all(project: Dummy) -> None:
    project.tell_to("fail", "resolve")
    answer = project.facet("run", "--no-track", code=1)
    assert project.counts() == {"resolve": 1}
    assert "failed: resolve; skipped" in answer.stdout


def test_two_runs_at_once_do_everything_once(project: Dummy) -> None:
    project.slow_down(train_backbone=2)
    first = project.start("run", "--jobs", "2", "--no-track")
    try:
        project.wait_for("train_backbone@r0")
        project.facet("run", "--jobs", "2", "--no-track")
        assert first.wait(timeout=60) == 0
    finally:
        project.stop(first)
    assert set(project.counts().values()) == {1}
    assert project.counts("end") == project.counts()
    assert len(project.lock_entries()) == 7


def test_the_environment_need_not_be_activated(project: Dummy) -> None:
    bare = {"PATH": "/usr/bin:/bin", "HOME": str(project.path), "PREFECT_API_URL": str(project.api_url)}
    subprocess.run(
        [str(Path(sys.executable).parent / "facet"), "run", "unpack", "--no-track"],
        cwd=project.path,
        env=bare,
        check=True,
        capture_output=True,
        timeout=100,
    )
    assert project.counts() == {"unpack": 1}


@pytest.fixture
def with_servers(project: Dummy, servers: dict[str, Service], server_root: Path) -> Dummy:
    """A project that finds servers running and MLflow's database made, as after `facet up`."""
    (project.path / ".facet").mkdir()
    shutil.copy(server_root / ".facet/services.json", project.path / ".facet/services.json")
    shutil.copytree(server_root / "tracking", project.path / "tracking")
    return Dummy(project.path)


def test_a_demo_runs_everything_and_a_second_one_nothing(
    with_servers: Dummy, servers: dict[str, Service]
) -> None:
    project = with_servers
    first = project.facet("demo", "--jobs", "2").stdout
    assert set(project.counts().values()) == {1}
    assert len(project.lock_entries()) == 7
    # MLflow is asked to take a project that is not one of ours: whatever it says, the run stands
    api_url, identity = servers["prefect"].url + "/api", project.last_run()["flow_run_id"]
    track = task_runs(api_url, identity)["track"]["id"]
    of_task, of_flow = (
        {log["message"] for log in ask(api_url, "/logs/filter", {"logs": {key: {"any_": [one]}}, "limit": 200})}
        for key, one in (("task_run_id", track), ("flow_run_id", identity))
    )
    told = {line for line in of_task if not line.startswith(("Finished in state", "Task run failed with state"))}
    assert told
    assert told <= of_flow
    assert project.last_run()["state"] == "COMPLETED"
    flow_run = f"{servers['prefect'].url}/runs/flow-run/{project.last_run()['flow_run_id']}"
    for where in (
        "| heads |",
        f"Prefect  {flow_run}",
        f"MLflow   {servers['mlflow'].url}",
        "results/tables/heads",
    ):
        assert where in first
    second = project.facet("demo", "--jobs", "2").stdout
    assert set(project.counts().values()) == {1}
    assert "nothing to do: 7 stages are up to date" in second
    assert "| heads |" in second
    assert f"Prefect  {flow_run}" in second
