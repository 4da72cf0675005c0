"""The papers' tables: numbers as published, rows that are runs, columns that suites give."""

from __future__ import annotations

import functools
import json
import re
from typing import Any

import pytest
import yaml

from stages.config.table import Table
from stages.core.metrics.missing import SETS
from stages.datasets.ijbs import PROTOCOLS
from stages.protocols import averages, ijb_1to1, ijb_1ton, ijbs
from stages.reporting.findings import digest_of_tree
from stages.suites import lq
from tests.support import ROOT

TABLES = (
    "qgface_ablation", "scface", "tinyface", "adaface_hq", "adaface_arcface", "adaface_ijb", "ijb_ms1mv2", "webface4m",
    "webface12m", "ijbs", "adaface_margin", "adaface_augmentation", "magface_margins", "ig_fiqa",
)  # fmt: skip
NO_NUMBERS = ("adaface_margin", "adaface_augmentation", "magface_margins", "ig_fiqa")
"""Of whose papers no numbers could be read."""
PUBLISHED_ONLY = ("confidence",)
"""Beside the fourteen: methods that are not trained here at all."""
HQ = ("LFW", "CFPFP", "CPLFW", "CALFW", "AGEDB")
RUNS: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "ablations/runs.yaml").read_text())


@functools.cache
def load(name: str) -> Table:
    return Table.model_validate(yaml.safe_load((ROOT / f"tables/{name}.yaml").read_text()))


def percent(value: str) -> float | None:
    """AdaFace's accuracies are fractions of four digits, everything else is percent."""
    if value == "NA":
        return None
    return round(100 * float(value), 4) if re.fullmatch(r"0\.\d{4}", value) else float(value)


def golden() -> dict[str, dict[str, list[float | None]]]:
    """By table and row, the papers' values, as percent."""
    found: dict[str, dict[str, list[float | None]]] = {}
    rows: dict[str, list[float | None]] = {}
    for line in (ROOT / "tests/golden/published_tables.txt").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            rows = found.setdefault(line.strip("[]"), {})
            continue
        key, *values = line.split()
        rows[key] = [percent(value) for value in values]
    return found


def test_the_documents_have_fourteen_tables():
    assert len(TABLES) == 14
    assert set(TABLES) <= {path.stem for path in (ROOT / "tables").glob("*.yaml")}
    assert set(golden()) == set(TABLES) - set(NO_NUMBERS) | set(PUBLISHED_ONLY)


@pytest.mark.parametrize("name", [*TABLES, *PUBLISHED_ONLY])
def test_every_published_number_is_the_documents_own(name: str):
    table = load(name)
    written = {
        key: [row.published.get(column.name) for column in table.columns] for key, row in table.rows.items()
    }
    if name in NO_NUMBERS:
        assert all(value is None for values in written.values() for value in values)
        assert "not found in any page or repository that could be read" in table.source
        return
    expected = golden()[name]
    assert written == expected
    assert list(written) == list(expected)


@pytest.mark.parametrize("name", ["adaface_hq", "adaface_arcface"])
def test_published_averages_are_those_of_the_published_columns(name: str):
    for row in load(name).rows.values():
        if row.published.get("AVG") is None:
            continue
        values = [row.published[column] for column in HQ]
        assert all(value is not None for value in values)
        # five columns and the average are each rounded to the second digit
        assert sum(value or 0 for value in values) / 5 == pytest.approx(row.published["AVG"], abs=0.0101)


def test_all_avg_of_qgface_is_the_mean_of_its_six_other_columns():
    for row in load("qgface_ablation").rows.values():
        *others, average = row.published.values()
        assert sum(value or 0 for value in others) / 6 == pytest.approx(average, abs=0.0101)


@pytest.mark.parametrize("name", PUBLISHED_ONLY)
def test_a_table_of_published_numbers_alone_names_no_run(name: str):
    rows = load(name).rows.values()
    assert all(row.run is None and any(value is not None for value in row.published.values()) for row in rows)


@pytest.mark.parametrize("name", TABLES)
def test_every_run_of_a_table_is_described_and_its_rows_differ(name: str):
    table = load(name)
    named = [row.run for row in table.rows.values() if row.run is not None]
    assert named
    assert set(named) <= set(RUNS)
    assert len(set(named)) == len(named)
    for row in table.rows.values():
        assert row.run is not None or any(value is not None for value in row.published.values())


def test_every_run_is_a_row_of_some_table_and_no_two_are_the_same_training():
    tables = [path.stem for path in (ROOT / "tables").glob("*.yaml")]
    assert set(RUNS) <= {row.run for name in tables for row in load(name).rows.values()}
    seen = [(name, yaml.safe_dump(run, sort_keys=True)) for name, run in RUNS.items()]
    assert len({text for _, text in seen}) == len(seen)
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in RUNS)


def keys() -> dict[str, str]:
    """By suite, what a metric of it may be called: a pattern made of what the suites themselves know."""
    hq = "|".join((*SETS["hq"], "avg"))
    fmr, fpir = "|".join(f"{x:.0e}" for x in ijb_1to1.FMRS), "|".join(f"{x:.0e}" for x in ijb_1ton.FPIRS)
    ranks, of_videos = "|".join(map(str, ijb_1ton.RANKS)), "|".join(map(str, ijbs.RANKS))
    low = "|".join(f"{x:.0e}" for x in ijbs.FPIRS)
    tiny = "|".join(map(str, lq.TINYFACE_RANKS))
    sets = "|".join(SETS["fiqa"])
    return {
        "hq": hq,
        "ijb": f"ijb[bc]_(tar_at_far_({fmr})|rank({ranks})|tpir_at_fpir_({fpir}))",
        "lq": f"tinyface_rank({tiny})|scface_d[123]|crlfw_\\d+|"
        f"ijbs_({'|'.join(PROTOCOLS)})_(rank({of_videos})|tpir_fpir({low}))",
        "fiqa": f"({sets})_((joint|feature_norm)_(edc_auc|iso_pauc)_fmr1e-0[234](_by_norm)?|spearman_(joint|feature_norm))",
        "averages": "hq_avg|all_avg",
    }


@pytest.mark.parametrize("name", TABLES)
def test_every_column_is_a_metric_that_a_suite_gives(name: str):
    table = load(name)
    for column in table.columns:
        for row in table.rows.values():
            if row.run is not None:
                suite, _, _ = column.metric.partition(".")
                assert re.fullmatch(keys()[suite], column.key(row)), column.metric
    assert table.primary in [column.name for column in table.columns]


def test_patterns_of_metrics_know_the_results_of_the_embedded_data():
    assert re.fullmatch(keys()["lq"], "ijbs_surveillance_to_single_tpir_fpir1e-02")
    assert re.fullmatch(keys()["fiqa"], "IJBC_feature_norm_edc_auc_fmr1e-02")
    assert not re.fullmatch(keys()["ijb"], "ijbb_tar_at_fmr_1e-04")
    assert not re.fullmatch(keys()["fiqa"], "ijbc_spearman_joint")
    assert averages.OTHERS[-1] == "ijb.ijbb_tar_at_far_1e-04"


@pytest.mark.parametrize("name", TABLES)
def test_a_table_says_where_its_published_rows_come_from(name: str):
    table = load(name)
    assert re.search(r" at [0-9a-f]{8}|arXiv", table.source)
    untrained = [row.label for row in table.rows.values() if row.run is None]
    assert not untrained or "published only" in table.note


def test_the_page_on_tables_names_each_of_them_and_counts_them_right():
    page = " ".join((ROOT / "docs/tables.md").read_text().split())
    rows = [row for name in TABLES for row in load(name).rows.values()]
    measured = sum(row.run is not None for row in rows)
    trainings = len({row.run for row in rows} - {None})
    assert f"{trainings} trainings for {measured} rows; {len(rows) - measured} more rows are published only" in page
    for name in TABLES:
        assert f"`{name}`" in page.partition("## The fourteen")[2]


def findings() -> list[tuple[str, str]]:
    return [(name, profile) for name in TABLES for profile in load(name).findings]


@pytest.mark.parametrize(("name", "profile"), findings())
def test_a_finding_is_about_the_results_of_the_committed_report(name: str, profile: str):
    folder = ROOT / "docs/report" / ("" if profile == "demo" else profile)
    tables = json.loads((folder / "index.json").read_text())["tables"]
    (table,) = (table for table in tables if table["name"] == name)
    assert load(name).findings[profile].digest == digest_of_tree(table["rows"]) == table["digest"]
    assert table["finding"] == load(name).findings[profile].text.strip()
