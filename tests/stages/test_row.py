"""The stage `row` on results as evaluation writes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stages import row
from stages.config.table import Gathered
from tests import fake_results


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    fake_results.write_project(tmp_path)
    return tmp_path


def gather(run: str = "arcface", *options: str) -> Gathered:
    row.main(row.parser().parse_args([f"heads-{run}", run, *options]))
    return Gathered.model_validate_json(Path(f"results/tables/heads/rows/heads-{run}.json").read_text())


def test_a_row_holds_metrics_curves_parameters_and_the_weights(project: Path):
    gathered = gather("cosface")
    assert gathered.run == "cosface"
    assert gathered.weights_sha256 == fake_results.weights_sha256("cosface")
    assert gathered.parameters["head.name"] == "cosface"
    assert gathered.parameters["schedule.milestones"] == [4, 5]
    assert gathered.measured["hq"]["lfw"] == 0.71
    assert {name: list(curves) for name, curves in gathered.curves.items()} == {
        "hq": ["roc"], "ijb": ["roc", "cmc"], "lq": ["cmc", "roc"], "fiqa": ["edc"],
    }  # fmt: skip
    assert gathered.curves["lq"]["cmc"][0] == {"set": "tinyface", "rank": 1, "rate": 0.3}


def test_a_row_of_some_suites_reads_no_other(project: Path):
    for name in ("quality", "ijb", "lq", "fiqa"):
        Path(f"results/arcface/{name}.json").unlink()
    gathered = gather("arcface", "--suites=hq")
    assert list(gathered.measured) == ["train", "hq", "averages"]
    assert list(gathered.curves) == list(gathered.switches) == ["hq"]
    assert gathered.unmeasured["averages"]["all_avg"].startswith("needs lq.scface_d1")
    assert list(gather("arcface", "--suites=").measured) == ["train", "averages"]


def test_a_suite_that_is_not_there_is_named_with_those_that_are(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        row.parser().parse_args(["heads-arcface", "arcface", "--suites=hq,high"])
    assert "no suite high: there are quality, hq, ijb, lq, fiqa" in capsys.readouterr().err


def test_a_row_is_json_with_one_point_of_a_curve_a_line(project: Path):
    gather()
    text = Path("results/tables/heads/rows/heads-arcface.json").read_text()
    assert '        {"set": "tinyface", "rank": 1, "rate": 0.3},\n' in text
    curves = [Path(f"results/arcface/{suite}/roc.csv").read_text().splitlines()[1:] for suite in ("hq", "ijb", "lq")]
    assert text.count('"tar"') == sum(map(len, curves))


def test_a_row_has_the_averages_of_the_tables_or_why_not(project: Path):
    gathered = gather()
    for name in ("hq_avg", "all_avg"):
        assert (name in gathered.measured["averages"]) != (name in gathered.unmeasured["averages"])
    assert gathered.measured["averages"]["hq_avg"] == pytest.approx(
        sum(gathered.measured["hq"][name] for name in ("lfw", "cfp_fp", "cplfw", "calfw", "agedb_30")) / 5
    )


def test_why_an_average_of_a_suite_lacks_is_gathered(project: Path):
    path = Path("results/arcface/hq/details.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "avg": {"reason": "needs cfp_fp"}}))
    assert gather().unmeasured["hq"] == {"avg": "needs cfp_fp"}


def test_a_row_has_the_counts_of_each_test_set(project: Path):
    sets = {"lfw": {"pairs": 40, "images": 80, "accuracy": 0.5, "tar_at_far": {"1e-01": {"pairs": 3}}}}
    Path("results/arcface/hq/details.json").write_text(json.dumps({"sets": sets}))
    assert gather().counts["hq"] == {"lfw": {"pairs": 40, "images": 80}}


def test_a_row_has_the_error_rates_by_group(project: Path):
    groups = {"fmr": 0.01, "rates": [{"group": "x"}]}
    reason = {"fmr": {"x": {"reason": "there are no impostor pairs"}}}
    Path("results/arcface/hq/details.json").write_text(json.dumps({"sets": {"mine": {"groups": groups, **reason}, "lfw": {}}}))
    assert gather().groups == {"mine": groups}
    assert gather().unmeasured["hq"] == {"mine.fmr.x": "there are no impostor pairs"}


def test_a_row_names_the_data_set_that_was_measured(project: Path):
    assert gather().measured_on == ""
    path = Path("results/arcface/hq/details.json")
    path.write_text(json.dumps({"dataset": "alone", "sets": {}}))
    assert (gather().measured_on, gather().parameters["dataset"]) == ("alone", "demo")


def test_a_row_without_points_is_json_too(project: Path):
    Path("results/arcface/lq/cmc.csv").write_text("set,rank,rate\n")
    assert gather().curves["lq"]["cmc"] == []


def test_the_reason_for_a_missing_metric_is_gathered_from_the_details(project: Path):
    rates = {"1e-04": {"reason": "needs 10000 impostors"}, "1e-03": {"nearest": {"tar": 1}}}
    scores = {"cr_fiqa": {"1e-02": {"edc_auc": None, "reason": "too few"}}}
    failed = [{"image": "a.jpg", "reason": "no face"}]
    sets = {"IJBB": {"tar_at_far": rates}, "lfw": {"methods": scores, "first_failed": failed}}
    Path("results/arcface/ijb/details.json").write_text(json.dumps({"sets": sets}))
    assert gather().unmeasured["ijb"] == {
        "IJBB.tar_at_far.1e-04": "needs 10000 impostors", "lfw.cr_fiqa.1e-02": "too few",
    }  # fmt: skip


def test_suites_that_measured_different_weights_are_refused(project: Path):
    path = Path("results/arcface/ijb.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "weights_sha256": "f" * 64}))
    with pytest.raises(ValueError, match=r"results/arcface: all suites should have the same weights_sha256, .* ijb ffffffffffff"):
        gather()


def test_nan_in_metrics_or_curves_is_refused_with_its_place(project: Path):
    curve = Path("results/arcface/hq/roc.csv")
    kept = curve.read_text()
    curve.write_text("set,far,tar\nlfw,0.1,nan\n")
    with pytest.raises(ValueError, match=r"hq/roc\.csv, line 2, tar: nan"):
        gather()
    curve.write_text(kept)
    Path("results/arcface/lq.json").write_text('{"tinyface_rank1": NaN}')
    with pytest.raises(ValueError, match=r"lq\.json: tinyface_rank1 is nan"):
        gather()


def test_a_missing_file_is_named(project: Path):
    Path("results/arcface/fiqa/edc.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"results/arcface/fiqa/edc\.csv is missing"):
        gather()
