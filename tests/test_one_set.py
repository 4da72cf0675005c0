"""A person's data set with one verification set: a run on it gets its table, through real DVC and into MLflow."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from stages.datasets import insightface_rec
from tests.pipeline.tracked import query
from tests.stages import small_sets
from tests.support import ROOT, Project, copy_project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NO_IJB = "no IJB set of mine is named (ijb.sets is empty)"
OTHER = "lfw of data set mine has 40 pairs, LFW has 6,000"
NEEDS = "needs hq.cfp_fp, hq.cplfw, hq.calfw, hq.agedb_30"


@pytest.fixture(scope="module")
def project(make_project: Callable[[], Project], tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project after `dvc repro` of one run on a folder with lfw.bin alone, in a table with the columns of `heads`."""
    folder = tmp_path_factory.mktemp("person") / "faces"
    images = [(small_sets.encoded(identity, seed), identity) for identity in range(8) for seed in range(4)]
    insightface_rec.write(folder / "train", images, 8)
    small_sets.write_bin(folder / "eval/lfw.bin")
    made = make_project()
    table = yaml.safe_load((ROOT / "tables/heads.yaml").read_text())
    table["columns"] += [{"name": "HQ Avg.", "metric": "averages.hq_avg"}]
    table["rows"] = {"a": {**table["rows"]["adaface"], "run": "a"}}
    (made.path / "tables/own.yaml").write_text(yaml.safe_dump(table))
    params = yaml.safe_load((made.path / "params.yaml").read_text())
    benchmarks = {"hq": {"sets": ["lfw"]}, "ijb": {"sets": []}, "lq": None, "fiqa": None}
    params |= {
        "synthetic": {}, "datasets": {"mine": {"root": str(folder), "benchmarks": benchmarks}},
        "runs": {"a": {"dataset": "mine", "head": {"name": "cosface", "margin": 0.3}, "schedule": {"epochs": 1, "milestones": []}}},
        "rows": {"own-a": {"table": "own", "run": "a"}}, "tables": {"own": {}},
    }  # fmt: skip
    (made.path / "params.yaml").write_text(yaml.safe_dump(params))
    made.run("dvc", "repro", timeout=480)
    return made


def test_the_table_has_what_was_measured_and_the_reason_for_every_empty_column(project: Project):
    cells = json.loads((project.path / "results/tables/own/report/table.json").read_text())["rows"][0]["cells"]
    assert {name for name, cell in cells.items() if cell["measured"] is not None} == {"LFW"}
    # not beside 99.82
    assert (cells["LFW"]["published"], cells["LFW"]["difference"], cells["LFW"]["apart"]) == (99.82, None, OTHER)
    assert cells["IJB-B TAR at FAR 1e-4"]["reason"] == NO_IJB
    # no average of the rest
    assert cells["HQ AVG"]["reason"] == "needs cfp_fp, cplfw, calfw, agedb_30"
    assert cells["HQ Avg."]["reason"] == NEEDS
    assert all(cell["reason"] for name, cell in cells.items() if name != "LFW")
    for printed in (
        project.run("python", "-m", "pipeline.cli", "table", "own"),
        *((project.path / f"results/tables/own/report/table.{end}").read_text() for end in ("html", "csv")),
    ):
        assert NO_IJB in printed
        assert NEEDS in printed
        assert OTHER in printed


def test_dvc_shows_what_was_measured_and_nothing_for_the_rest(project: Project):
    shown = json.loads(project.run("dvc", "metrics", "show", "--json"))[""]["data"]
    assert list(shown) == ["results/a/summary.json"]
    data = shown["results/a/summary.json"]["data"]
    assert list(data) == ["hq"]
    assert list(data["hq"]) == ["lfw"]
    assert 0 <= data["hq"]["lfw"] <= 1
    assert "file://" in project.run("dvc", "plots", "show")
    page = (project.path / "dvc_plots/index.html").read_text()
    assert '"ROC of a"' in page
    assert '"CMC of a"' not in page
    assert "up to date" in project.run("dvc", "status")


def test_a_folder_of_test_sets_alone_is_measured_without_training(project: Project, empty_store: Path, tmp_path: Path):
    other = copy_project(project.path, tmp_path / "project", empty_store)
    folder = tmp_path / "alone"
    small_sets.write_bin(folder / "African.bin", num_identities=5)
    lines = ["a,b,same,group"]
    for person in range(6):
        (folder / f"pairs/p{person}").mkdir(parents=True)
        for picture in range(2):
            (folder / f"pairs/p{person}/{picture}.png").write_bytes(small_sets.encoded(person, picture))
        lines += [f"p{person}/0.png,p{person}/1.png,1,{'old' if person % 2 else 'young'}"]
        lines += [f"p{person}/0.png,p{(person + k) % 6}/{k % 2}.png,0,{'old' if k % 2 else 'young'}" for k in range(1, 4)]
    (folder / "pairs/pairs.csv").write_text("\n".join(lines) + "\n")
    params = yaml.safe_load((other.path / "params.yaml").read_text())
    benchmarks = {"hq": {"sets": ["African", "pairs"], "group_fmr": 0.1}, "ijb": None, "lq": None, "fiqa": None}
    params["datasets"]["alone"] = {"root": str(folder), "benchmarks": benchmarks}
    params["runs"]["a"]["benchmarks"] = {"dataset": "alone"}
    (other.path / "params.yaml").write_text(yaml.safe_dump(params))
    table = yaml.safe_load((other.path / "tables/own.yaml").read_text())
    table["columns"] += [{"name": "African", "metric": "hq.African"}, {"name": "old", "metric": "hq.pairs_fmr_old"}]
    (other.path / "tables/own.yaml").write_text(yaml.safe_dump(table))
    printed = other.run("dvc", "repro", timeout=480)
    assert "data set alone has no training set: nothing to unpack" in printed
    assert "Running stage 'train_backbone" not in printed
    assert "evaluate_hq@a" in printed
    report = other.path / "results/tables/own/report"
    cells = json.loads((report / "table.json").read_text())["rows"][0]["cells"]
    assert 0 <= cells["African"]["measured"] <= 100
    assert 0 <= cells["old"]["measured"] <= 100
    assert cells["LFW"]["reason"] == "data set alone: hq.sets does not name lfw"
    for end in ("md", "html"):
        shown = (report / f"table.{end}").read_text()
        assert "Error rates by group: pairs" in shown
        assert "95 % bands by resampling identities (folder names)" in shown
    assert "up to date" in other.run("dvc", "status")


def test_mlflow_has_no_metric_of_what_is_missing_and_a_tag_with_the_reason(project: Project):
    tags = "select value from tags where key = 'facet.not_measured'"
    ((said,),) = query(project, tags)
    assert f"IJB-B TAR at FAR 1e-4: not measured: {NO_IJB}" in said
    metrics = {key for (key,) in query(project, "select key from latest_metrics")}
    assert "LFW" in metrics
    assert "published.LFW" not in metrics
    assert query(project, "select value from tags where key = 'facet.not_compared'") == [(f"LFW: {OTHER}",)]
    assert not {"HQ AVG", "IJB-B TAR at FAR 1e-4"} & metrics
