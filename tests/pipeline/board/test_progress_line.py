"""What the board reads of a progress line is what `stages.runtime.progress` writes."""

from __future__ import annotations

import pytest

from pipeline.board import progress_line
from stages.runtime.progress import Progress


def test_a_line_that_a_stage_prints_is_read_back(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = iter([0.0, 10.0])
    lines = Progress("train arcface", 6000, "images", clock=lambda: next(seconds))
    lines.advance(2250, note="loss 3.214")
    found = progress_line.parse(capsys.readouterr().err.strip())
    assert found is not None
    assert (found.percent, found.rate, found.note) == (37.0, "225/s", "loss 3.214")
    assert found.left_s == pytest.approx((6000 - 2250) / 225, abs=1)


def test_a_stage_that_has_done_nothing_has_no_time_left_to_tell() -> None:
    line = Progress("fiqa lfw", 40, "pairs", clock=lambda: 0.0).line(5.0)
    assert "inf s left" in line
    found = progress_line.parse(line)
    assert found is not None
    assert (found.percent, found.left_s) == (0.0, None)


@pytest.mark.parametrize("line", ["", "lfw 0.9917  cfp_fp 0.9512", "error: 40% of the images are missing", "Running stage 'unpack':"])
def test_other_lines_are_no_progress(line: str) -> None:
    assert progress_line.parse(line) is None
