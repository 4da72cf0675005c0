from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.execution import history
from pipeline.execution.history import LastRun
from pipeline.execution.stage_result import StageResult


def test_the_last_attempt_of_a_stage_counts(tmp_path: Path) -> None:
    for state, ended in (("failed", 1.0), ("executed", 2.0)):
        history.add_attempt(tmp_path, StageResult(state, "why", 3.0, address="unpack", ended=ended))
    history.add_attempt(tmp_path, StageResult("failed", "error: no", address="train@a", ended=3.0))
    last = history.last_attempts(tmp_path)
    assert last["unpack"] == StageResult("executed", "why", 3.0, address="unpack", ended=2.0)
    assert last["train@a"].message == "error: no"


def test_attempts_that_an_earlier_version_wrote_are_read(tmp_path: Path) -> None:
    (tmp_path / ".facet").mkdir()
    line = '{"address": "unpack", "state": "executed", "message": "", "command_s": 3.0, "ended": 2.0}'
    (tmp_path / ".facet/attempts.jsonl").write_text(line + "\n")
    assert history.durations(tmp_path) == {"unpack": 3.0}


def test_only_stages_that_ran_to_their_end_say_how_long_they_take(tmp_path: Path) -> None:
    for state, command_s in (("executed", 9.0), ("restored", 0.0), ("stopped", 2.0)):
        history.add_attempt(tmp_path, StageResult(state, command_s=command_s, address="unpack"))
    assert history.durations(tmp_path) == {"unpack": 9.0}


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    history.add_attempt(tmp_path, StageResult("executed", address="unpack"))
    with (tmp_path / ".facet/attempts.jsonl").open("a") as stream:
        stream.write('{"address": "tra')
    assert [attempt.address for attempt in history.attempts(tmp_path)] == ["unpack"]


def test_without_files_nothing_is_known(tmp_path: Path) -> None:
    assert history.attempts(tmp_path) == []
    assert history.last_run(tmp_path) is None


def test_the_last_run_is_remembered(tmp_path: Path) -> None:
    run = LastRun("id", "heads", "COMPLETED", "3 executed")
    history.write_last_run(tmp_path, run)
    assert history.last_run(tmp_path) == run


def test_a_flow_run_lives_on_when_the_clock_is_set(tmp_path: Path) -> None:
    mine = history.this_flow_run("id")
    history.write_open(tmp_path, replace(mine, born=mine.born - 3))
    assert history.unsettled(tmp_path) == []
    history.write_open(tmp_path, replace(mine, born=mine.born - 30))
    assert [one.flow_run_id for one in history.unsettled(tmp_path)] == ["id"]


def test_a_flow_run_that_an_earlier_version_wrote_down_with_its_tasks_is_read(tmp_path: Path) -> None:
    history.write_open(tmp_path, replace(history.this_flow_run("id"), state="COMPLETED"))
    (path,) = (tmp_path / ".facet/flow-runs").glob("*.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tasks": []}))
    assert [one.flow_run_id for one in history.unsettled(tmp_path)] == ["id"]


@pytest.mark.parametrize("pid", [-1, 0])
def test_a_damaged_record_of_a_flow_run_names_no_process(tmp_path: Path, pid: int) -> None:
    history.write_open(tmp_path, history.this_flow_run("id"))
    (path,) = (tmp_path / ".facet/flow-runs").glob("*.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pid": pid}))
    assert history.unsettled(tmp_path) == []
