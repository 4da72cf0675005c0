from __future__ import annotations

import json
from pathlib import Path

import pytest

from stages.runtime.progress import Progress, log_point


def test_progress_is_written_at_most_once_per_interval_and_at_the_end(capsys: pytest.CaptureFixture[str]):
    now_s = [0.0]
    progress = Progress("train", 100, "images", interval_s=5, clock=lambda: now_s[0])
    for _ in range(10):
        now_s[0] += 1
        progress.advance(10)
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["train   50%  50/100 images  10/s  5 s left", "train  100%  100/100 images  10/s  0 s left"]


def test_measurements_are_one_json_object_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "logs" / "x.jsonl"
    monkeypatch.setenv("FACET_LOG_FILE", str(path))
    log_point(1, loss=2.5)
    log_point(2, loss=2.0)
    points = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(point["step"], point["loss"]) for point in points] == [(1, 2.5), (2, 2.0)]


def test_a_log_that_cannot_be_written_does_not_end_the_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("FACET_LOG_FILE", str(tmp_path))
    log_point(1, loss=2.5)
    assert "warning: cannot write" in capsys.readouterr().err
