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
CURRENT_RUNS = "tags.`facet.current` = 'true'"


def path(experiment_id: str) -> str:
    """Return the place in MLflow's pages that shows an experiment's runs in this view."""
    return f"/experiments/{experiment_id}/runs?viewStateShareKey={NAME}"


def state(shown: Sequence[tuple[str, str]]) -> str:
    """Return the tag's value for a view of the current runs with these columns, by kind and name."""
    columns = [f"{kind}.`{name}`" for kind, name in shown]
    tree = {
        "searchFilter": CURRENT_RUNS,
        "orderByKey": "tags.`facet.position`",
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": [],
        "columnWidths": {},
    }
    text = json.dumps(tree, separators=(",", ":"))
    packed = "deflate;" + base64.b64encode(zlib.compress(text.encode(), 9)).decode()
    return json.dumps({"name": "The table", "createdAt": 0, "state": packed})
