from __future__ import annotations

import time

from pipeline.execution.graph import Stage
from pipeline.execution.stage_result import StageResult
from pipeline.tables import summary


def test_hundreds_of_skipped_stages_are_counted_and_few_are_named() -> None:
    ended = [
        StageResult("failed", name="resolve"), *(StageResult("skipped", name=f"train@r{i}") for i in range(531))
    ]
    told = summary.sentence(ended)
    assert told.startswith("failed: resolve; skipped, because they need it: train@r0, train@r1, ")
    assert told.endswith("train@r7 and 523 more")


def test_a_view_of_many_stages_is_made_in_milliseconds() -> None:
    stages = {f"a{i}": Stage(f"a{i}", f"train@r{i}", (), ("new",)) for i in range(600)}
    ended = {
        address: StageResult("executed", command_s=1.0, name=stage.name) for address, stage in list(stages.items())[:300]
    }
    begun_s = time.process_time()
    view = summary.view(stages, {}, ended, {})
    assert time.process_time() - begun_s < 0.25
    assert (view.percent, len(view.rows)) == (50.0, 600)
    assert view.sentence == "300 of 600 stages; 300 executed"
