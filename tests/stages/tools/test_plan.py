"""`facet plan` prints what a run of params.yaml needs on N GPUs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stages.config import params
from stages.runtime import artifacts
from stages.tools import plan

WEBFACE42M = ["--classes", "2059906", "--images", "42474557"]


def test_memory_time_and_disk_are_printed(capsys: pytest.CaptureFixture[str]):
    assert plan.run(["adaface", "--gpus", "8", *WEBFACE42M, "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree["classes_per_gpu"] == 257_489
    assert tree["memory_bytes"]["total"] == sum(value for name, value in tree["memory_bytes"].items() if name != "total")
    assert tree["fits"] is True
    schedule = params.load().runs["adaface"].train.schedule
    assert tree["steps"] == 42_474_557 // schedule.batch_size * schedule.epochs
    assert tree["hours"] * 3600 * tree["images_per_s"] == pytest.approx(tree["steps"] * schedule.batch_size)
    assert tree["steps_per_s"] * schedule.batch_size == pytest.approx(tree["images_per_s"])
    # key, offset, length and label of each record, of 8 bytes each
    assert tree["host_bytes"] == {"positions": 32 * 42_474_557, "order": 8 * 42_474_557, "own_order": 42_474_557}
    assert plan.run(["adaface", "--gpus", "8", *WEBFACE42M]) == 0
    text = capsys.readouterr().out
    assert "42,474,557 images of 2,059,906 classes" in text
    assert "classes per GPU    257,489" in text
    assert "by the roofline    400 TFLOP/s in half precision, 300 in TF32, 45 in float32, 2.6 TB/s, times 1.45;" in text
    assert "host memory, GiB   1.27 of positions per machine" in text


def test_the_numbers_of_an_unpacked_data_set_are_taken_from_its_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(artifacts, "unpacked_folder", lambda name: tmp_path)
    with pytest.raises(ValueError, match="the numbers of classes and images of demo are not known"):
        plan.size_of("demo", None, 7)
    (tmp_path / "card.json").write_text(json.dumps({"num_classes": 5, "records": 70}))
    assert plan.size_of("demo", None, None) == (5, 70)
    assert plan.size_of("demo", 9, None) == (9, 70)


@pytest.mark.parametrize(
    ("options", "said"),
    [(["nobody"], "params.yaml has no run nobody"), (["adaface", "--gpus", "7", *WEBFACE42M], "7 GPUs cannot share a batch")],
)
def test_what_cannot_be_planned_is_refused(options: list[str], said: str, capsys: pytest.CaptureFixture[str]):
    assert plan.run(options) == 2
    assert said in capsys.readouterr().err
