"""Fills MLflow from DVC's lock files: exactly one run per fingerprint, whichever process reproduced the stage.

The only writer of MLflow. Calling it again changes nothing; calling it on an empty store rebuilds everything.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.base import environment
from pipeline.base.workspace import Workspace
from pipeline.tracking import collect, recorded_ids, saved_views, store
from pipeline.tracking.desired import Experiment, Scope, Wanted
from stages.runtime import files

PROBLEM = "facet.git_problem"
RECEIPT = store.TRACKING / "receipt.json"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Tracked:
    """What one call recorded, each by its place: ``heads/AdaFace``."""

    uri: str
    created: tuple[str, ...] = ()
    existing: tuple[str, ...] = ()
    waiting: Mapping[str, str] = field(default_factory=dict)  # not finished, with the reason


def initialise_store(root: Path = Path()) -> str:
    """Create or upgrade the database, once for any number of processes, and return the tracking URI.

    Raises:
        ValueError: the file there is no database, or was made elsewhere.
    """
    tracking_uri = store.uri(root)
    with store.alone(root):
        _prepare(root, tracking_uri)
    return tracking_uri


def track(
    root: Path = Path(),
    say: Say = lambda line: None,
    workspace: Workspace | None = None,
) -> Tracked:
    """Record all finished results that are not recorded yet, and mark the current ones.

    Args:
        root: of the project.
        say: called with a line for each run made.
        workspace: beside it, to record its tables, in the project's store; what else is there stays as it is: the
            project's own, other workspaces', and tables that the workspace has not now.

    Raises:
        ValueError: the store cannot be used.
        Exception: whatever MLflow raises: nothing half-made stays for good, the next call makes it anew.
    """
    tracking_uri = store.uri(root)
    with store.alone(root):
        # read inside: whoever held the store may have made us wait while results changed
        asked = collect.collect(root, workspace)
        _prepare(root, tracking_uri)
        from pipeline.tracking.writer import Writer  # imports MLflow

        writer = Writer(tracking_uri)
        created = writer.write(asked, say)
        if problem := next((record.tags[PROBLEM] for record in asked.records if PROBLEM in record.tags), ""):
            say(f"recorded without the commit: git says: {problem}")
        recorded_ids.write(root, tracking_uri, writer.ids())
        with files.replacing(root / receipt_path(asked.scope)) as path:
            path.write_text(_as_text(_receipt(asked, tracking_uri)), encoding="utf-8")
    existing = tuple(record.where for record in asked.records if record.where not in created)
    return Tracked(tracking_uri, tuple(created), existing, asked.waiting)


def _prepare(root: Path, tracking_uri: str) -> None:
    """Create or upgrade the store; a new one has nothing of what was recorded in one before it."""
    path = store.database(tracking_uri)
    if path is not None and not path.is_file():
        recorded_ids.forget(root)
    store.prepare(tracking_uri)


def receipt_path(scope: Scope) -> Path:
    """Return the path of the receipt; the project's is an output of the stage `track`."""
    return RECEIPT if scope.workspace is None else store.TRACKING / f"{scope.kind}-{scope.workspace}.json"


def is_recorded(where: Workspace) -> bool:
    """Return whether receipt and IDs say that a workspace's results are recorded, without asking MLflow."""
    asked = collect.collect(where.project, None if where.kind == "project" else where)
    path = where.project / receipt_path(asked.scope)
    current = {fingerprint for fingerprint, run in recorded_ids.runs(where).items() if run.current}
    return (
        path.is_file()
        and path.read_text(encoding="utf-8") == _as_text(_receipt(asked, store.uri(where.project)))
        and {record.fingerprint for record in asked.records} <= current
    )


def _receipt(asked: Wanted, tracking_uri: str) -> dict[str, Any]:
    """Return the receipt that everything is recorded; made of the inputs alone, so that DVC finds it unchanged."""
    return {
        # without folders of this machine
        "store": "sqlite" if store.database(tracking_uri) is not None else environment.without_password(tracking_uri),
        "experiments": {experiment.key: _said(experiment) for experiment in asked.experiments},
        "best": {best.name: best.model.key for best in asked.best},
    }


def _said(experiment: Experiment) -> dict[str, Any]:
    look = json.dumps([experiment.note, saved_views.state(experiment.look), saved_views.KIND])
    return {
        "name": experiment.name,
        "look": hashlib.sha256(look.encode()).hexdigest(),
        "runs": {record.where: record.fingerprint for record in experiment.records},
        "models": {record.where: record.model.key for record in experiment.records if record.model is not None},
    }


def _as_text(receipt: Mapping[str, Any]) -> str:
    return json.dumps(receipt, indent=2) + "\n"
