from __future__ import annotations

from dataclasses import replace

from pipeline.board.lines import Lines
from pipeline.board.snapshot import StageNow
from tests.pipeline.board.drawn import NOW, snapshot

STAGE = StageNow("train_backbone@a", "heads", "a", expected_s=41.0)


def test_a_stage_has_a_line_as_it_begins_one_per_half_minute_and_one_as_it_ends() -> None:
    lines = Lines()
    running = replace(STAGE, state="running", device="cpu:0", began=NOW)
    first, *_ = lines.news(snapshot(STAGE), NOW)
    assert first == "heads: 2 of 8 stages, about 1:20 left"
    assert list(lines.news(snapshot(running), NOW)) == ["train_backbone@a begins on cpu:0, usually 0:41"]
    printed = [
        (second, line)
        for second in range(1, 70)
        for line in lines.news(snapshot(replace(running, line=f"step {second}")), NOW + second)
    ]
    assert printed == [(30, "train_backbone@a: step 30"), (60, "train_backbone@a: step 60")]
    failed = replace(running, state="failed", seconds=70.2, message="exited with 2")
    assert list(lines.news(snapshot(failed), NOW + 70)) == ["train_backbone@a failed after 1:10: exited with 2"]
    assert list(lines.news(snapshot(failed), NOW + 200)) == []
