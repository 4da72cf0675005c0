"""Saved views of MLflow's list of runs: which columns in which order, which runs, and which charts.

MLflow keeps views as tags of the experiment, as JSON or deflated (mlflow/server/js savedViewEnvelope.ts). No
document of MLflow's describes them: what is here was read from the pages of ``MADE_FOR``; no other module knows it.
"""

from __future__ import annotations

import base64
import importlib.metadata
import json
import zlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from pipeline.tracking.desired import Look
from pipeline.tracking.metric_columns import PUBLISHED

MADE_FOR = "3.17"
"""The version of MLflow, without its last number, whose pages these views were made for."""
NAME = "table"
TAG = f"mlflow.sharedViewState.{NAME}"
RUN_NAME, CREATED = "attributes.`Run Name`", "runDateAndNestInfo"
# else a first visitor gets the pages for chat models
TRAINING = "workflowType=machine_learning"
KIND = ("mlflow.experimentKind", "custom_model_development")
CURRENT_RUNS = "tags.`facet.current` = 'true'"
MAX_TAG = 5000
"""Maximum length of an experiment's tag in MLflow."""
MAX_RUNS = 100
WIDE = {"Description": 700}


def warning(version: str | None = None) -> str | None:
    """Return a sentence where MLflow is of another version than the views were made for; None where it is not.

    >>> warning("3.17.9") is None
    True

    Args:
        version: of MLflow; None: the installed one.
    """
    version = version or importlib.metadata.version("mlflow")
    if version.split(".")[:2] == MADE_FOR.split("."):
        return None
    return (
        f"MLflow is {version}, the saved views of tables were made for {MADE_FOR}: every run and number is recorded, "
        "but columns and charts of the pages may look otherwise"
    )


def path(experiment_id: str) -> str:
    """Return the address, within MLflow's pages, of an experiment's runs in this view."""
    return f"/experiments/{experiment_id}/runs?{TRAINING}&viewStateShareKey={NAME}"


def charts_path(experiment_id: str) -> str:
    """Return the address of the same runs as charts."""
    return f"{path(experiment_id)}&compareRunsMode=CHART"


def report_path(experiment_id: str, run_id: str, file: str = "") -> str:
    """Return the address, within MLflow's pages, of a run's files, or of one of them."""
    end = f"/{quote(file)}" if file else ""
    return f"/experiments/{experiment_id}/runs/{run_id}/artifacts{end}?{TRAINING}"


def model_path(name: str) -> str:
    """Return the address, within MLflow's pages, of a registered model."""
    return f"/models/{quote(name)}"


def state(look: Look) -> str:
    """Return the tag's value for a view of the current runs with these columns and charts.

    Charts are left out of a table so wide that MLflow would not take the tag with them: it draws its own then.
    """
    text = _packed({**_list(look), **_charts(look)})
    return text if len(text) <= MAX_TAG else _packed(_list(look))


def _packed(tree: dict[str, Any]) -> str:
    text = json.dumps(tree, separators=(",", ":"))
    packed = "deflate;" + base64.b64encode(zlib.compress(text.encode(), 9)).decode()
    return json.dumps({"name": "The table", "createdAt": 0, "state": packed})


def _list(look: Look) -> dict[str, Any]:
    columns = [f"{kind}.`{name}`" for kind, name in look.shown]
    widths = {column: _width(*shown) for column, shown in zip(columns, look.shown, strict=True)}
    return {
        "searchFilter": CURRENT_RUNS,
        "orderByKey": "tags.`facet.position`",
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        # MLflow would sort them by name; it wants these two first and takes the rest as given
        "columnOrder": [RUN_NAME, CREATED, *columns, "duration"],
        "columnWidths": {RUN_NAME: 190, CREATED: 110, **widths, "duration": 80},
        # else charts show the first ten rows only
        "runsHiddenMode": "SHOW_ALL",
    }


def _charts(look: Look) -> dict[str, Any]:
    """Return sections of charts; MLflow adds all remaining metrics itself, in alphabetical order."""
    if not look.columns:
        return {}
    sections: list[tuple[str, bool, list[dict[str, Any]]]] = [
        ("Columns of the table", True, [{"type": "BAR", "metricKey": name} for name in look.columns]),
        ("Parameters and columns", True, list(_parallel(look))),
        ("Measured over published", True, [_against(name) for name in look.beside]),
        ("Published", False, list(_bars(look, PUBLISHED))),
        ("Spread over seeds", False, list(_bars(look, ".std"))),
    ]
    charts: list[dict[str, Any]] = []
    described: list[dict[str, Any]] = []
    for number, (name, is_open, content) in enumerate(sections):
        if content:
            described.append({"uuid": f"s{number}", "name": name, "display": is_open, "isReordered": True})
        for one in content:
            where = {"uuid": f"c{len(charts)}", "metricSectionId": f"s{number}"}
            charts.append({**one, **where, "deleted": False, "isGenerated": False, "runsCountToCompare": MAX_RUNS})
    return {"compareRunCharts": charts, "compareRunSections": described, "isAccordionReordered": True}


def _bars(look: Look, mark: str) -> Iterator[dict[str, Any]]:
    for kind, name in look.shown:
        if kind == "metrics" and (name.startswith(mark) or name.endswith(mark)):
            yield {"type": "BAR", "metricKey": name}


def _parallel(look: Look) -> Iterator[dict[str, Any]]:
    """Yield one parallel-coordinates chart, from a row's parameters to the primary column."""
    params = [name for kind, name in look.shown if kind == "params" and name not in ("row", "seeds")]
    if params and look.primary in look.columns:
        yield {"type": "PARALLEL", "selectedParams": params, "selectedMetrics": [look.primary], "showAllRuns": True}


def _against(name: str) -> dict[str, Any]:
    x, y = ({"key": key, "type": "METRIC"} for key in (PUBLISHED + name, name))
    return {"type": "SCATTER", "xaxis": x, "yaxis": y, "displayName": f"{name}, over published"}


def _width(kind: str, name: str) -> int:
    """Return a column's width in pixels.

    Parameters and what stands beside a column are narrow, their headings cut (MLflow shows the whole one on
    hovering): five whole ones left no number in a window of 1600 pixels.
    """
    beside = kind == "params" or name.startswith(PUBLISHED) or name.endswith(".std")
    return WIDE.get(name, min(max(80, 8 * len(name) + 24), 104 if beside else 240))
