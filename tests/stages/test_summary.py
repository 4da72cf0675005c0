"""The stage `summary` on results as evaluation writes them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages import summary
from stages.config import shown_columns
from stages.config.table import Table
from stages.config.tree import RowOfTable
from tests import fake_results
from tests.support import ROOT

COLUMNS = ("hq.lfw", "lq.tinyface_rank1", "fiqa.lfw_cr_fiqa_edc_auc_fmr1e-02", "hq.not_measured", "averages.hq_avg")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    fake_results.write_project(tmp_path)
    path = tmp_path / "resolved/runs/cosface.yaml"
    path.write_text(path.read_text() + yaml.safe_dump({"summary": {"columns": list(COLUMNS)}}))
    return tmp_path


def test_a_summary_has_the_columns_that_were_measured_and_the_curves(project: Path) -> None:
    summary.main(summary.parser().parse_args(["cosface"]))
    found = json.loads(Path("results/cosface/summary.json").read_text())
    whole = {suite: json.loads(Path(f"results/cosface/{suite}.json").read_text()) for suite in ("hq", "lq", "fiqa")}
    assert found == {
        "hq": {"lfw": whole["hq"]["lfw"]},
        "lq": {"tinyface_rank1": whole["lq"]["tinyface_rank1"]},
        "fiqa": {"lfw_cr_fiqa_edc_auc_fmr1e-02": whole["fiqa"]["lfw_cr_fiqa_edc_auc_fmr1e-02"]},
        "averages": {"hq_avg": pytest.approx(sum(whole["hq"][name] for name in fake_results.HQ) / 5)},
    }
    assert {path.name for path in Path("results/cosface/curves").iterdir()} == {"roc.csv", "det.csv", "cmc.csv", "edc.csv"}
    roc, det = lines("cosface/curves/roc.csv"), lines("cosface/curves/det.csv")
    assert [set(line) for line in (roc[0], det[0])] == [{"set", "far", "tar"}, {"set", "far", "fnmr"}]
    original = lines("cosface/hq/roc.csv")
    assert [{**one, **other} for one, other in zip(roc, det, strict=True)] == original
    assert lines("cosface/curves/edc.csv") == lines("cosface/fiqa/edc.csv")


def lines(name: str) -> list[dict[str, str]]:
    with Path("results", name).open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_curve_without_its_columns_is_refused(project: Path) -> None:
    Path("results/cosface/lq/cmc.csv").write_text("set,rank\nlfw,1\n")
    with pytest.raises(ValueError, match=r"lq/cmc.csv should have the columns set, rank, rate; it lacks rate"):
        summary.main(summary.parser().parse_args(["cosface"]))


def table(*metrics: str, **rows: dict[str, Any]) -> Table:
    tree = {"title": "t", "source": "s", "columns": [{"name": one, "metric": one} for one in metrics], "rows": rows}
    return Table.model_validate(tree)


TABLES = {
    "first": table("hq.lfw", "fiqa.lfw_{quality}_auc", a={"label": "A", "run": "a", "quality": "cr_fiqa"}),
    "second": table("lq.scface_d1", "hq.lfw", a={"label": "A", "run": "a"}),
}
ROWS = {
    "first-a": RowOfTable(table="first", run="a"), "second-a": RowOfTable(table="second", run="a"),
    "second-a-1": RowOfTable(table="second", run="a_s1"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("run", "columns"),
    [
        ("a", ("hq.lfw", "fiqa.lfw_cr_fiqa_auc", "lq.scface_d1")),
        ("a_s1", ("lq.scface_d1", "hq.lfw")),
        ("in_no_table", ("hq.lfw", "lq.scface_d1")),
    ],
)
def test_a_run_shows_the_columns_of_its_tables_or_of_all(run: str, columns: tuple[str, ...]) -> None:
    assert shown_columns.of_run(run, ROWS.items(), TABLES).columns == columns


def test_without_tables_a_run_shows_what_the_papers_average() -> None:
    shown = shown_columns.of_run("a", [], {}).columns
    assert {"hq.lfw", "lq.tinyface_rank1", "ijb.ijbb_tar_at_far_1e-04", "averages.all_avg"} <= set(shown)


def test_a_table_with_other_columns_makes_no_row_of_another_table_stale(project: Path) -> None:
    """Rows depend on what the stage writes, so that a table brings DVC's views up to date; not on what tables change."""
    deps = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["row"]["do"]["deps"]
    made = [dep for dep in deps if "/curves/" in dep or dep.endswith("/summary.json")]
    assert made == ["results/${item.run}/curves/roc.csv"]
    texts = []
    for columns in (["hq.lfw"], ["lq.tinyface_rank1"]):
        resolved = Path("resolved/runs/cosface.yaml")
        tree = yaml.safe_load(resolved.read_text()) | {"summary": {"columns": columns}}
        resolved.write_text(yaml.safe_dump(tree))
        summary.main(summary.parser().parse_args(["cosface"]))
        texts.append((Path("results/cosface/summary.json").read_text(), Path("results/cosface/curves/roc.csv").read_text()))
    assert texts[0][0] != texts[1][0]
    assert texts[0][1] == texts[1][1]


@pytest.mark.parametrize("path", sorted(ROOT.glob("graph/*/dvc.yaml")), ids=lambda path: path.parent.name)
def test_dvc_keeps_a_run_cache_of_every_stage_of_a_run(path: Path) -> None:
    """It writes no entry for a stage with an uncached output that is neither a metric nor a plot."""
    for stage in yaml.safe_load(path.read_text())["stages"].values():
        outs = [out for out in stage["do"].get("outs", []) if isinstance(out, dict)]
        assert [out for out in outs if not next(iter(out.values())).get("cache", True)] == []


def test_one_file_of_each_run_is_a_metric_and_the_others_are_in_git_all_the_same() -> None:
    metrics, uncached = [], []
    for path in ROOT.glob("graph/*/dvc.yaml"):
        (stage,) = yaml.safe_load(path.read_text())["stages"].values()
        metrics += [name for out in stage["do"].get("metrics", []) for name in out]
        named = [out for kind in ("metrics", "plots") for out in stage["do"].get(kind, []) if isinstance(out, dict)]
        uncached += [name for out in named for name, more in out.items() if not more.get("cache", True)]
    assert metrics == ["results/${key}/summary.json"]
    assert {Path(name).name for name in uncached} >= {f"{suite}.json" for suite in ("summary", *summary.SUITES)}
