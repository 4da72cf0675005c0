"""The file of a training's measurements: whole over kills and resumes, each value once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stages.runtime import measurements, program
from stages.runtime.measurements import Curve, Measurements

ABOUT = {"stage": "train_backbone@a", "run": "a", "key": "k", "num_steps": 9}


def events(path: Path) -> list[str]:
    trees = [measurements.parse(line) for line in path.read_bytes().splitlines()]
    return [tree[measurements.EVENT] for tree in trees if measurements.EVENT in tree]


def test_a_resumed_training_repeats_steps_and_the_curve_has_each_once(tmp_path: Path):
    path = tmp_path / "live/a.k.jsonl"
    for first, last in ((1, 4), (3, 6)):
        one = Measurements(path, ABOUT)
        one.begin()
        for step in range(first, last + 1):
            one.log_point(step, loss=float(first))
    one.log_point(6, validation_avg=0.5)  # of the same step, after it
    about, points = measurements.read(path)
    assert (about["key"], about["num_steps"]) == ("k", 9)
    assert [(point.step, dict(point.values)) for point in points] == [
        (1, {"loss": 1.0}), (2, {"loss": 1.0}), (3, {"loss": 1.0}), (4, {"loss": 1.0}), (5, {"loss": 3.0}),
        (6, {"loss": 3.0}), (6, {"validation_avg": 0.5}),
    ]  # fmt: skip
    one.write(tmp_path / "results/measurements.jsonl")
    assert measurements.read(tmp_path / "results/measurements.jsonl")[1] == points
    told = json.loads((tmp_path / "results/measurements.jsonl").read_text().splitlines()[0])
    assert told.keys() == {"time", "event", *ABOUT}  # no process, no folder of this machine


def test_only_what_comes_after_known_steps_is_new(tmp_path: Path):
    one = Measurements(tmp_path / "a.k.jsonl", ABOUT)
    one.begin()
    for step in (1, 2):
        one.log_point(step, loss=1.0, rate=2.0)
    _, points = measurements.read(tmp_path / "a.k.jsonl", Curve({"loss": 1, "rate": 2}))
    assert [(point.step, dict(point.values)) for point in points] == [(2, {"loss": 1.0})]


def test_the_end_is_an_event_and_a_line_that_a_kill_cut_in_two_stays_alone(tmp_path: Path):
    path = tmp_path / "a.k.jsonl"
    with pytest.raises(program.Terminated), measurements.recorded(path, **ABOUT):
        raise program.Terminated
    with path.open("a") as stream:
        stream.write('{"time": 1, "st')
    with pytest.raises(ValueError, match="nan"), measurements.recorded(path, **ABOUT):
        raise ValueError("the loss is nan\nmore")
    assert measurements.parse(path.read_bytes().splitlines()[-1])["reason"] == "the loss is nan"
    with measurements.recorded(path, **ABOUT):
        pass
    assert events(path) == ["began", "stopped", "began", "failed", "began", "finished"]


def test_a_finished_training_that_begins_again_has_a_new_file_and_other_files_of_the_run_go(tmp_path: Path):
    with measurements.recorded(tmp_path / "a.k.jsonl", **ABOUT) as written:
        written.log_point(1, loss=1.0)
    (tmp_path / "b.k.jsonl").touch()
    Measurements(tmp_path / "a.k.jsonl", ABOUT).begin()
    assert measurements.read(tmp_path / "a.k.jsonl")[1] == []
    Measurements(tmp_path / "a.k2.jsonl", {**ABOUT, "key": "k2"}).begin()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.k2.jsonl", "b.k.jsonl"]


def test_a_file_that_cannot_be_written_ends_no_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "a.k.jsonl").mkdir()
    with measurements.recorded(tmp_path / "a.k.jsonl", **ABOUT) as written:
        written.log_point(1, loss=1.0)
    assert "warning: cannot" in capsys.readouterr().err
