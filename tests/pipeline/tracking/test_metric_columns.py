"""A table's columns as metrics: the numbers that the report shows, under names that MLflow takes."""

from __future__ import annotations

import re

import pytest

from pipeline.tracking import metric_columns
from stages.config.table import Gathered, Scale, Table
from stages.reporting.comparison import compare
from tests.fake_results import TABLE, full


def test_values_are_those_of_the_table_and_holes_stay_holes():
    gathered = {"measured": {"hq": {"lfw": 0.123456}, "fiqa": {"lfw_cr_fiqa_edc_auc_fmr1e-02": 0.123456}}}
    assert metric_columns.measured(full(TABLE), [gathered], {}) == {"LFW": 12.35, "EDC AUC": 0.1235}


@pytest.mark.parametrize("values", [(0.37797, 0.34693), (0.5,), (0.1, 0.2, 0.4)], ids=["a tie of rounding", "one", "three"])
def test_mean_and_spread_over_seeds_are_the_numbers_of_the_report(values: tuple[float, ...]):
    rows = {"a": {"label": "A", "run": "a"}}
    tree = {"title": "T", "source": "S", "columns": [{"name": "X", "metric": "s.x"}], "rows": rows}
    runs = [
        Gathered(run="a", weights_sha256="0", parameters={"seed": seed}, measured={"s": {"x": value}}, unmeasured={}, curves={})
        for seed, value in enumerate(values)
    ]  # fmt: skip
    cell = compare("t", Table.model_validate(tree), Scale(profile="demo"), {"a": runs}).lines[0].cells[0]
    said = {"X": cell.measured, "X.std": cell.std}
    found = metric_columns.measured(full(tree), [run.model_dump() for run in runs], rows["a"])
    assert found == {name: value for name, value in said.items() if value is not None}


def test_why_a_value_lacks_is_what_the_report_says():
    columns = [{"name": "X", "metric": "hq.lfw"}, {"name": "Y@1", "metric": "ijb.ijbb_rank1"}, {"name": "Z", "metric": "hq.avg"}]
    tree = {"title": "T", "source": "S", "columns": columns, "rows": {"a": {"label": "A", "run": "a"}}}
    run = Gathered(
        run="a", weights_sha256="0", parameters={"dataset": "mine"}, measured={"hq": {"lfw": 0.5}, "ijb": {}}, curves={},
        unmeasured={"hq": {"avg": "needs cfp_fp"}}, switches={"hq": {"sets": ["lfw"]}, "ijb": {"sets": []}},
    )  # fmt: skip
    found = metric_columns.not_measured(full(tree), [run.model_dump()], tree["rows"]["a"])
    assert found == {"Y at 1": "not measured: no IJB set of mine is named (ijb.sets is empty)", "Z": "not measurable: needs cfp_fp"}
    cells = compare("t", Table.model_validate(tree), Scale(profile="demo"), {"a": [run]}).lines[0].cells
    assert list(found.values()) == [f"{cell.missing}: {cell.reason}" for cell in cells[1:]]


def test_the_published_value_of_another_set_does_not_stand_beside_and_the_reason_is_the_reports():
    columns = [{"name": "X@1", "metric": "hq.lfw"}, {"name": "Y", "metric": "hq.cplfw"}]
    row = {"label": "A", "run": "a", "published": {"X@1": 99.0, "Y": 90.0}}
    tree = {"title": "T", "source": "S", "columns": columns, "rows": {"a": row}}
    run = Gathered(
        run="a", weights_sha256="0", parameters={"dataset": "trained_on"}, measured_on="mine", curves={},
        measured={"hq": {"lfw": 0.5, "cplfw": 0.5}},
        counts={"hq": {"lfw": {"pairs": 40}, "cplfw": {"pairs": 6000}}}, unmeasured={},
    )  # fmt: skip
    scale = Scale.model_validate({"profile": "paper", "data": {"mine": {"published": ["lfw", "cplfw"]}}})
    apart = metric_columns.not_compared(full(tree), [run.model_dump()], row, scale.model_dump()["data"])
    cells = compare("t", Table.model_validate(tree), scale, {"a": [run]}).lines[0].cells
    assert apart == {"X@1": cells[0].apart}
    assert "has 40 pairs, LFW has 6,000" in cells[0].apart
    assert metric_columns.published(full(tree), row, apart) == {"published.Y": 90.0}


def test_published_values_stand_beside_and_null_is_nothing():
    row = {"published": {"LFW": 99.82, "TinyFace Rank-1": None}}
    assert metric_columns.published(full(TABLE), row) == {"published.LFW": 99.82}


def test_the_view_shows_parameters_then_columns_with_the_published_ones_beside():
    there = {"LFW", "published.LFW", "EDC AUC"}
    assert list(metric_columns.shown(full(TABLE), there)) == [
        ("params", "head.name"), ("params", "head.margin"), ("metrics", "LFW"), ("metrics", "published.LFW"),
        ("metrics", "EDC AUC"),
    ]  # fmt: skip


def test_any_name_becomes_one_that_mlflow_takes():
    for name in ("TAR@FAR=1e-4", "IJB-B/C", "τ (all) [%]", "a, b; c", "  x  "):
        assert re.fullmatch(r"[\w.\- :]+", metric_columns.metric_name(name)), name
        assert metric_columns.metric_name(name) == metric_columns.metric_name(name).strip()


def test_columns_that_mlflow_cannot_tell_apart_are_refused():
    twins = [{"name": "TAR@FAR", "metric": "s.a"}, {"name": "TAR at FAR", "metric": "s.b"}]
    with pytest.raises(ValueError, match="columns 'TAR@FAR' and 'TAR at FAR' are equal in MLflow"):
        metric_columns.check({"columns": twins})
    metric_columns.check(full(TABLE))


def test_each_column_has_the_data_set_that_it_was_measured_on():
    columns = [
        {"name": "LFW", "metric": "hq.lfw"}, {"name": "Mask", "metric": "hq.lfw_mask"}, {"name": "Mean", "metric": "hq.avg"},
        {"name": "Images/s", "metric": "train.images_per_s", "unit": "number"},
    ]  # fmt: skip
    table = full({"title": "T", "source": "S", "columns": columns, "rows": {"a": {"label": "A", "run": "a"}}})
    synthetic = metric_columns.measured_on(table, {}, {"demo": "1"})
    assert synthetic == dict.fromkeys(("LFW", "Mask", "Mean"), ("demo", "1"))
    own = metric_columns.measured_on(table, {}, {"mine/lfw": "1", "mine/lfw_mask": "2"})
    assert own == {"LFW": ("mine/lfw", "1"), "Mask": ("mine/lfw_mask", "2")}
