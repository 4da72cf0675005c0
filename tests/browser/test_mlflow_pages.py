"""What a person sees of a table in MLflow, in a real browser: `make browser`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pipeline.tracking.metric_columns import metric_name
from tests.browser.pages import Grid, Shown, follow, number, read_grid, scroll_to
from tests.pipeline.tracked import quietly

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

Picture = Callable[[Any, str], None]


def table_grid(page: Any, shown: Shown) -> Grid:
    shown.open_table(page, f"table.{shown.table}")
    return read_grid(page, len(shown.report["rows"]))


def test_the_list_of_runs_is_the_table_with_its_rows_in_order(page: Any, shown: Shown):
    grid = table_grid(page, shown)
    assert [row["name"] for row in grid.rows] == [row["label"] for row in shown.report["rows"]]


def test_columns_stand_in_the_tables_order_after_what_the_rows_differ_in(page: Any, shown: Shown):
    report, grid = shown.report, table_grid(page, shown)
    order = [header for header in grid.headers if header.startswith(("params.", "metrics."))]
    params = [header.removeprefix("params.") for header in order if header.startswith("params.")]
    assert [name for name in params if name != "seeds"] == report["ablation"]
    assert order[: len(params)] == [f"params.{name}" for name in params]
    metrics = [header.removeprefix("metrics.") for header in order[len(params) :]]
    columns = [metric_name(column["name"]) for column in report["columns"]]
    assert [name for name in metrics if not name.startswith("published.") and not name.endswith(".std")] == columns
    for name in metrics:
        plain = name.removeprefix("published.").removesuffix(".std")
        assert metrics.index(plain) <= metrics.index(name) <= metrics.index(plain) + 2, "beside its column"
    assert any(name.startswith("published.") for name in metrics)


def test_every_value_is_the_reports(page: Any, shown: Shown):
    report, grid = shown.report, table_grid(page, shown)
    compared = 0
    for row, line in zip(grid.rows, report["rows"], strict=True):
        for column, cell in line["cells"].items():
            for header, value in (("", cell["measured"]), ("published.", cell["published"])):
                place = f"metrics.{header}{metric_name(column)}"
                if place in row or value is not None:
                    assert number(row[place]) == value, f"{line['label']}, {place}"
                    compared += value is not None
            if cell.get("std") is not None:
                assert number(row[f"metrics.{metric_name(column)}.std"]) == cell["std"]
    assert compared > len(report["rows"])


def test_the_table_fits_a_page(page: Any, shown: Shown, picture: Picture):
    table_grid(page, shown)
    page.get_by_text("matching run").wait_for()
    page.get_by_text("published.").first.wait_for()  # only columns inside the window are drawn
    assert page.get_by_role("link", name="Report").is_visible()
    picture(page, "table")


def test_the_experiments_page_leads_to_the_table(page: Any, shown: Shown):
    page.goto(shown.at("/experiments"))
    page.get_by_text("Model training", exact=True).click()  # else MLflow shows every experiment as one of chat models
    place = shown.experiment(f"table.{shown.table}")
    page.locator(f"a[href*='/experiments/{place}']").first.click()
    follow(page, "As the table")
    page.get_by_role("link", name=shown.report["rows"][-1]["label"], exact=True).wait_for()


def test_chosen_runs_compare_by_what_differs_with_a_chart(page: Any, shown: Shown, picture: Picture):
    measured = [(index, row["label"]) for index, row in enumerate(shown.report["rows"]) if row["run"]][:3]
    table_grid(page, shown)
    for index, _ in measured:
        page.locator(f".ag-pinned-left-cols-container [row-index='{index}'] .ag-selection-checkbox input").check()
    page.get_by_role("button", name="Compare", exact=True).click()
    page.get_by_role("heading", name=f"Comparing {len(measured)} Runs").wait_for()
    chart = page.locator(".js-plotly-plot .parcoords").first
    chart.wait_for()
    text = page.locator("body").inner_text()
    for _, label in measured:
        assert label in text
    for parameter in shown.report["ablation"]:
        assert page.get_by_text(parameter, exact=True).count() >= 1
    picture(page, "compare")
    assert metric_name(shown.report["columns"][0]["name"]) in text


def test_charts_follow_the_tables_columns_with_a_bar_a_row(page: Any, shown: Shown, picture: Picture):
    shown.open_experiment(page, f"table.{shown.table}")
    follow(page, "Charts")
    page.get_by_text("Columns of the table").wait_for()
    page.locator(".js-plotly-plot .bars .point path").first.wait_for()
    first = metric_name(shown.report["columns"][0]["name"])
    values = [row["cells"][shown.report["columns"][0]["name"]]["measured"] for row in shown.report["rows"]]
    drawn = page.locator(".js-plotly-plot").first
    assert drawn.locator(".bars .point").count() == sum(value is not None for value in values)
    assert page.get_by_text(first, exact=True).count() >= 1
    picture(page, "charts")


def test_the_summary_run_shows_the_report(page: Any, shown: Shown, picture: Picture):
    shown.open_experiment(page, f"table.{shown.table}")
    follow(page, "Report")
    frame = page.frame_locator("iframe")
    frame.get_by_role("heading", name=shown.report["title"]).first.wait_for()
    words = frame.locator("body").inner_text()
    assert shown.report["verdict"].split(":")[0] in words
    for row in shown.report["rows"]:
        assert row["label"] in words
    files = page.locator("body").inner_text()
    for name in ("table.html", "table.csv", "table.md", "order.svg"):
        assert name in files, name
    picture(page, "report")


def test_the_list_of_reports_has_tau_of_every_table(page: Any, shown: Shown):
    shown.open_table(page, "reports")
    grid = read_grid(page, shown.current("reports"))
    (row,) = (row for row in grid.rows if row["name"] == shown.report["title"])
    assert number(row["metrics.tau"]) == pytest.approx(shown.report["agreement"]["tau"], abs=1e-5)
    assert row["attributes.Description"].startswith(shown.report["verdict"][:20])


def test_single_seeds_are_a_table_of_their_own(page: Any, shown: Shown):
    report = shown.report
    if max(len(row["runs"]) for row in report["rows"]) < 2:
        pytest.skip("this table has one seed a row")
    shown.open_experiment(page, f"table.{shown.table}")
    follow(page, "Every seed")
    grid = read_grid(page, sum(len(row["runs"]) for row in report["rows"]))
    wanted = [(row["label"], str(run["seed"])) for row in report["rows"] for run in row["runs"]]
    assert [(row["params.row"], row["params.seed"]) for row in grid.rows] == wanted


def test_the_best_model_is_registered_with_its_alias(page: Any, shown: Shown, picture: Picture):
    shown.open_experiment(page, f"table.{shown.table}")
    follow(page, "Best model")
    page.get_by_role("heading", name=shown.model).wait_for()
    page.get_by_text("@ best").wait_for()
    picture(page, "model")
    page.get_by_role("link", name="Version 1").first.click()
    page.get_by_role("heading", name="Version 1").wait_for()
    page.get_by_text("Inputs (1)").wait_for()


def test_the_best_model_loads_from_the_server(shown: Shown):
    with quietly():
        import mlflow

        mlflow.set_tracking_uri(shown.url)
        try:
            model = mlflow.pyfunc.load_model(f"models:/{shown.model}@best")
        finally:
            mlflow.set_tracking_uri(None)
        answer = model.predict({"image": [np.full((112, 112, 3), 7, np.uint8)]})
    assert answer["error"][0] is None
    assert np.linalg.norm(answer["embedding"][0]) == pytest.approx(1, abs=1e-4)


def test_a_training_shows_its_curve(page: Any, shown: Shown, picture: Picture):
    run = next(row["run"] for row in shown.report["rows"] if row["run"])
    shown.open_table(page, "runs")
    scroll_to(page, run).click()
    page.get_by_role("tab", name="Model metrics").click()
    page.locator(".js-plotly-plot .points path").first.wait_for()
    assert page.get_by_text("loss", exact=True).count() >= 1
    picture(page, "training")
