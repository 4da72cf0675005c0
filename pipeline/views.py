"""A saved view of MLflow's list of runs: which columns, in which order, of which runs.

MLflow keeps views as tags of the experiment, as JSON or deflated (mlflow/server/js savedViewEnvelope.ts).
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence

NAME = "table"
TAG = f"mlflow.sharedViewState.{NAME}"
RUN_NAME, CREATED = "attributes.`Run Name`", "runDateAndNestInfo"
# else a first visitor gets the pages for chat models
TRAINING = "workflowType=machine_learning"
CURRENT_RUNS = "tags.`facet.current` = 'true'"


def path(experiment_id: str) -> str:
    """Return the place in MLflow's pages that shows an experiment's runs in this view."""
    return f"/experiments/{experiment_id}/runs?{TRAINING}&viewStateShareKey={NAME}"


def report_path(experiment_id: str, run_id: str) -> str:
    """Return the place in MLflow's pages that shows the files of a run."""
    return f"/experiments/{experiment_id}/runs/{run_id}/artifacts?{TRAINING}"


def state(shown: Sequence[tuple[str, str]]) -> str:
    """Return the tag's value for a view of the current runs with these columns, by kind and name."""
    columns = [f"{kind}.`{name}`" for kind, name in shown]
    widths = {column: _width(name) for column, (_, name) in zip(columns, shown, strict=True)}
    tree = {
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
        "columnWidths": {RUN_NAME: 190, CREATED: 160, **widths, "duration": 80},
    }
    text = json.dumps(tree, separators=(",", ":"))
    packed = "deflate;" + base64.b64encode(zlib.compress(text.encode(), 9)).decode()
    return json.dumps({"name": "The table", "createdAt": 0, "state": packed})


def _width(name: str) -> int:
    """Return a column's width in pixels: its heading is not cut, unless it is very long."""
    return min(max(90, 8 * len(name) + 24), 240)
