"""Which of Prefect's console lines a flow run prints without a board."""

from __future__ import annotations

import logging

from pipeline.flow.display import Brief


def record(message: str, task: str | None, level: int = logging.INFO) -> logging.LogRecord:
    name = "prefect.flow_runs" if task is None else "prefect.task_runs"
    one = logging.LogRecord(name, level, __file__, 1, message, None, None)
    if task is not None:
        one.task_run_name = task
    return one


def test_each_task_has_a_line_per_half_minute_and_the_flow_has_all_of_its_own() -> None:
    now = [0.0]
    brief = Brief(clock=lambda: now[0])
    printed = []
    for second in range(100):
        now[0] = float(second)
        printed += [(second, task) for task in ("a", "b", None) if brief.filter(record("line", task))]
    assert [second for second, task in printed if task == "a"] == [30, 60, 90]
    assert [second for second, task in printed if task == "b"] == [30, 60, 90]
    assert [second for second, task in printed if task is None] == list(range(100))


def test_prefects_own_line_at_the_end_of_a_task_is_left_out_for_ours_says_more() -> None:
    brief = Brief(clock=iter([0.0, 100.0, 200.0]).__next__)
    assert not brief.filter(record("begins", "a"))
    assert not brief.filter(record("Finished in state Failed('exited with 2')", "a", logging.ERROR))
    assert not brief.filter(record("Task run failed with state: Failed(message='exited with 2')", "a", logging.ERROR))
