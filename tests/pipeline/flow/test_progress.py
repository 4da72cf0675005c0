"""Snapshots of a flow run's stages."""

from __future__ import annotations

import time

from pipeline.board.grouping import Place
from pipeline.board.snapshot import Snapshot
from pipeline.execution.graph import Stage
from pipeline.execution.history import this_flow_run
from pipeline.execution.stage_result import StageResult
from pipeline.flow.progress import Progress, Running

NEEDS = {"resolve": (), "train_backbone@a": ("resolve",), "train_backbone@b": ("resolve",), "row": ("train_backbone@a",)}
BASE = Snapshot("all", this_flow_run("1"), 0.0)


def progress(**seconds: float) -> Progress:
    stages = {name: Stage(name, name, needed, ("new",)) for name, needed in NEEDS.items()}
    known = {name.replace("_at_", "@"): took for name, took in seconds.items()}
    return Progress(stages, {"row": Place("heads")}, seconds=known, jobs=1, num_devices=1)


def test_until_resolve_has_run_the_time_left_is_at_most_that_of_all_it_may_make_stale() -> None:
    work = progress(resolve=1.0, train_backbone_at_a=40.0, row=2.0)
    one = work.look(BASE)
    assert (one.left_s, one.left_is) == (83.0, "at most")
    work.ended["resolve"] = StageResult("executed", command_s=1.0, address="resolve", name="resolve")
    one = work.look(BASE)
    assert (one.left_s, one.left_is) == (82.0, "about")


def test_a_stage_that_ended_tells_how_long_others_of_its_kind_take() -> None:
    work = progress()
    assert (work.look(BASE).left_s, work.look(BASE).left_is) == (None, "at most")
    work.ended["resolve"] = StageResult("executed", command_s=1.0, address="resolve")
    work.ended["train_backbone@a"] = StageResult("executed", command_s=30.0, address="train_backbone@a")
    one = work.look(BASE)
    assert (one.left_s, one.left_is) == (30.0, "more than")
    assert {stage.name: stage.expected_s for stage in one.stages} == {
        "resolve": None, "train_backbone@a": None, "train_backbone@b": 30.0, "row": None,
    }  # fmt: skip


def test_a_running_stage_keeps_what_its_program_printed_last_not_what_dvc_did() -> None:
    work = progress()
    running = work.running["train_backbone@a"] = Running("cpu:0")
    for line in ("Running stage 'graph/x/dvc.yaml:train_backbone@a':", "> python -m stages.train_backbone a", "loss 3.2", "Updating lock file 'dvc.lock'"):
        running.say(line)
    stage = work.look(BASE).stages[1]
    assert (stage.state, stage.line, stage.device) == ("running", "loss 3.2", "cpu:0")
    assert abs(stage.began - time.time()) < 5
    work.lines["train_backbone@a"] = running.line
    work.ended["train_backbone@a"] = StageResult("failed", "exited with 2", 4.0, device="cpu:0")
    stage = work.look(BASE).stages[1]
    assert (stage.state, stage.message, stage.seconds, stage.line) == ("failed", "exited with 2", 4.0, "loss 3.2")
