"""The page of a table in MLflow: which of the orders that papers state in words hold; data sets of what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from mlflow.tracking import MlflowClient

from pipeline.tracking import collect, store, sync
from pipeline.tracking.desired import Experiment
from tests.pipeline import fabricated, live_training
from tests.pipeline.tracked import quietly

CLAIMS = [
    {"text": "AdaFace is above ArcFace.", "source": "its paper", "better": ["adaface"], "worse": ["arcface"]},
    {"text": "ArcFace is above AdaFace", "source": "nobody", "better": ["arcface"], "worse": ["adaface"], "columns": ["LFW"]},
]  # fmt: skip


def page(root: Path) -> Experiment:
    return next(one for one in collect.collect(root).experiments if one.key == "table.heads")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    fabricated.make(tmp_path, rows=("arcface", "adaface"), claims=CLAIMS)
    return tmp_path


def test_the_page_says_which_claims_hold_as_the_report_does(root: Path) -> None:
    report = json.loads((root / "results/tables/heads/report/table.json").read_text())
    said = [(one["verdict"], one["found"]) for one in report["claims"]]
    assert {verdict for verdict, _ in said} == {"holds", "fails"}
    note = page(root).note
    assert note.index("Published: ") < note.index("Stated in words:")
    lines = [line for line in note.splitlines() if line.startswith("- ")]
    assert lines == [
        f"- **{said[0][0]}**: AdaFace is above ArcFace (its paper); {said[0][1]}",
        f"- **{said[1][0]}**: ArcFace is above AdaFace (nobody); {said[1][1]}",
    ]


def test_a_report_that_is_not_what_dvc_locked_says_nothing(root: Path) -> None:
    (root / "results/tables/heads/report/table.json").write_text("{}")
    assert "Stated in words" not in page(root).note


@pytest.mark.slow
def test_the_metrics_of_a_model_have_the_data_set_that_its_run_has(
    tmp_path: Path, empty_store: Path, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    live_training.make(tmp_path, empty_store)
    fabricated.make(tmp_path, rows=("arcface",), program=program)
    lock = yaml.safe_load((tmp_path / "dvc.lock").read_text())
    digests = {"eval": "5" * 32 + ".dir", "train": "1" * 32 + ".dir"}
    for name in ("row@heads-arcface", "train_backbone@arcface"):
        lock["stages"][name]["deps"] += [
            {"path": f"data/demo/{folder}", "md5": md5} for folder, md5 in digests.items() if folder == "eval" or "@arc" in name
        ]
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump(lock))
    with quietly():
        sync.track(tmp_path)
        client = MlflowClient(store.uri(tmp_path))
        experiments = [one.experiment_id for one in client.search_experiments()]
        (row,) = [one for one in client.search_runs(experiments) if one.data.tags.get("facet.row") == "arcface"]
        used = {one.dataset.name: one.dataset.digest for one in row.inputs.dataset_inputs}
        assert used == {"demo": digests["eval"]}
        (model,) = client.search_logged_models(experiments)
        on = {one.key: (one.dataset_name, one.dataset_digest) for one in model.metrics or []}
    assert on["LFW"] == ("demo", digests["eval"])
    assert {on[name] for name in on if name.startswith("published.")} == {(None, None)}
