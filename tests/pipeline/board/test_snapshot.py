"""The file by which another terminal shows a run."""

from __future__ import annotations

from pathlib import Path

from pipeline.base import workspace
from pipeline.board import snapshot as snapshots
from pipeline.execution.history import FlowRun, this_flow_run
from tests.pipeline.board.drawn import NOW, snapshot, stages_of


def test_a_run_is_read_as_it_was_written_also_one_beside_the_project(tmp_path: Path) -> None:
    one = snapshot(*stages_of("arcface", "drwwww"))
    other = snapshot(*stages_of("cosface", "ffffff"), flow_run=this_flow_run("other"), began=NOW)
    snapshots.write(tmp_path, one)
    snapshots.write(workspace.beside(tmp_path, "ablations", "demo").folder, other)
    assert snapshots.read(tmp_path) == [one, other]


def test_a_run_that_is_over_is_read_only_by_those_who_know_it_and_then_cleared(tmp_path: Path) -> None:
    dead = snapshot(flow_run=FlowRun("dead", pid=2**22 + 1, born=0.0))
    alive = snapshot(flow_run=this_flow_run("alive"), began=NOW)
    for one in (dead, alive):
        snapshots.write(tmp_path, one)
    assert snapshots.read(tmp_path) == [alive]
    assert snapshots.read(tmp_path, ["dead"]) == [dead, alive]
    snapshots.clear(tmp_path)
    assert snapshots.read(tmp_path, ["dead"]) == [alive]


def test_a_torn_file_and_one_of_another_version_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / ".facet/boards"
    folder.mkdir(parents=True)
    (folder / "torn.json").write_text('{"title": "he')
    (folder / "other.json").write_text('{"title": "heads", "stages": []}')
    assert snapshots.read(tmp_path) == []
