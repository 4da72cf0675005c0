from __future__ import annotations

from pipeline.execution.stage_result import StageResult
from pipeline.tables import summary


def test_hundreds_of_skipped_stages_are_counted_and_few_are_named() -> None:
    ended = [
        StageResult("failed", name="resolve"), *(StageResult("skipped", name=f"train@r{i}") for i in range(531))
    ]
    told = summary.sentence(ended)
    assert told.startswith("failed: resolve; skipped, because they need it: train@r0, train@r1, ")
    assert told.endswith("train@r7 and 523 more")
