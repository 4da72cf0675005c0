"""IDs and commits of what is recorded in MLflow, in ``tracking/ids.json``: for links, without importing MLflow.

Each recording writes the file from the store; it is lost or of another store: `facet track` writes it again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pipeline.base import environment, records
from pipeline.base.workspace import Workspace
from pipeline.tracking import desired, saved_views, store
from pipeline.tracking.desired import scope_of
from stages.runtime import files

FILE = store.TRACKING / "ids.json"


@dataclass(frozen=True)
class RecordedRun:
    """A finished run of the store."""

    stage: str
    """Name of the stage whose result it is; empty for a first seed, whose stage is its row's."""
    experiment: str
    run: str
    current: bool
    commit: str
    """At which it was recorded first; empty outside a git checkout."""

    def url(self, mlflow_url: str) -> str:
        """Return its address on an MLflow server."""
        return f"{mlflow_url.rstrip('/')}/#/experiments/{self.experiment}/runs/{self.run}"


@dataclass(frozen=True)
class RecordedIds:
    """What a store holds of ours."""

    experiments: Mapping[str, str] = field(default_factory=dict)
    """ID by the experiment's key."""
    runs: Mapping[str, Mapping[str, RecordedRun]] = field(default_factory=dict)
    """By the experiment's key and the fingerprint."""


def write(root: Path, tracking_uri: str, ids: RecordedIds) -> None:
    """Write the IDs of a store; call it while holding `store.alone`."""
    tree = {"store": environment.without_password(tracking_uri), **asdict(ids)}
    with files.replacing(root / FILE) as path:
        path.write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")


def read(root: Path) -> RecordedIds:
    """Return the IDs of the project's store; none if that was deleted, or if they are lost or another store's."""
    tracking_uri, tree = store.uri(root), store.read_facts(root / FILE)
    database = store.database(tracking_uri)
    if tree.get("store") != environment.without_password(tracking_uri) or not (database is None or database.is_file()):
        return RecordedIds()
    runs, experiments = tree.get("runs"), tree.get("experiments")
    if not isinstance(runs, dict) or not isinstance(experiments, dict):
        return RecordedIds()
    found = {key: of_key for key, of_key in runs.items() if isinstance(of_key, dict)}
    return RecordedIds(
        {key: one for key, one in experiments.items() if isinstance(one, str)},
        {
            key: {name: one for name, run in of_key.items() if (one := records.of(RecordedRun, run)) is not None}
            for key, of_key in found.items()
        },
    )


def forget(root: Path) -> None:
    """Remove the IDs, because a new store takes the place of theirs."""
    (root / FILE).unlink(missing_ok=True)


def runs(where: Workspace) -> dict[str, RecordedRun]:
    """Return the recorded runs of a workspace by fingerprint."""
    scope, found = scope_of(where), read(where.project).runs
    return {one: run for key, of_key in found.items() if scope.has(key) for one, run in of_key.items()}


def run_links(where: Workspace, mlflow_url: str) -> dict[str, str]:
    """Return the MLflow address of each recorded stage's current run: training, row, report; none of a database."""
    if not has_pages(mlflow_url):
        return {}
    return {run.stage: run.url(mlflow_url) for run in runs(where).values() if run.current and run.stage}


def experiment_links(where: Workspace, mlflow_url: str, tables: Iterable[str]) -> dict[str, str]:
    """Return where MLflow shows each of a workspace's ``tables``, in the table view, as far as it is recorded.

    Args:
        where: the workspace.
        mlflow_url: of a server on this project's store: ``http://127.0.0.1:5000``; a database has no pages.
        tables: their names.
    """
    if not has_pages(mlflow_url):
        return {}
    scope, ids = scope_of(where), read(where.project).experiments
    found = {table: ids.get(scope.key(desired.table_key(table))) for table in tables}
    base = mlflow_url.rstrip("/")
    return {table: f"{base}/#{saved_views.path(one)}" for table, one in found.items() if one is not None}


def has_pages(mlflow_url: str) -> bool:
    """Return whether this is the address of a server rather than of a database, which has no pages to link to."""
    return mlflow_url.startswith(("http://", "https://"))
