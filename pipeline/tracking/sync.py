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
from urllib.parse import urlsplit

from pipeline.base.workspace import Workspace
from pipeline.tracking import collect, desired, saved_views, store
from pipeline.tracking.desired import Experiment, Scope, Wanted

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
        store.prepare(tracking_uri)
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
        receipt = _receipt(asked, tracking_uri)
        path = root / receipt_path(asked.scope)
        if _is_recorded(path, asked, tracking_uri, receipt):
            return Tracked(tracking_uri, (), tuple(record.where for record in asked.records), asked.waiting)
        store.prepare(tracking_uri)
        from pipeline.tracking.writer import Writer  # imports MLflow

        created = Writer(tracking_uri).write(asked, say)
        _write(path, receipt)
    existing = tuple(record.where for record in asked.records if record.where not in created)
    return Tracked(tracking_uri, tuple(created), existing, asked.waiting)


def receipt_path(scope: Scope) -> Path:
    """Return the path of the receipt; the project's is an output of the stage `track`."""
    return RECEIPT if scope.workspace is None else store.TRACKING / f"{scope.kind}-{scope.workspace}.json"


def experiment_url(base_url: str, table: str, root: Path = Path(), scope: Scope = store.PROJECT) -> str | None:
    """Return a table's address on an MLflow server, in the table view; None if it is not recorded.

    Args:
        base_url: of a server on this project's store: ``http://127.0.0.1:5000``.
        table: its name.
        root: of the project.
        scope: whose table it is.
    """
    key = scope.key(desired.table_key(table))
    tracking_uri = store.uri(root)
    if store.database(tracking_uri) is not None:
        found = store.experiment_id(tracking_uri, key)
    else:
        store.settle_environment()
        from pipeline.tracking.writer import find_experiment

        found = find_experiment(tracking_uri, key)
    return None if found is None else f"{base_url.rstrip('/')}/#{saved_views.path(found)}"


def _receipt(asked: Wanted, tracking_uri: str) -> dict[str, Any]:
    """Return the receipt that everything is recorded; made of the inputs alone, so that DVC finds it unchanged."""
    return {
        "store": _place(tracking_uri),
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


def _place(tracking_uri: str) -> str:
    """Return a tracking URI without its password and without folders of this machine."""
    if store.database(tracking_uri) is not None:
        return "sqlite"
    parts = urlsplit(tracking_uri)
    return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"


def _is_recorded(path: Path, asked: Wanted, tracking_uri: str, receipt: Mapping[str, Any]) -> bool:
    """Return whether the receipt is valid and a local store holds its runs; a server is always queried."""
    if not path.is_file() or path.read_text(encoding="utf-8") != _as_text(receipt):
        return False
    found = store.recorded(tracking_uri, asked.scope.has)
    if found is None:
        return False
    current = {one for one, runs in found.items() if any(run.current for run in runs)}
    one_each = all(len(runs) == 1 and runs[0].status == "FINISHED" for runs in found.values())
    here = {record.fingerprint for record in asked.records}
    if asked.whole:
        # what is locked but not here is current if it was ever recorded
        marked = current == here | (asked.locked & found.keys())
    else:
        places = {(one.key, record.where) for one in asked.experiments for record in one.records}
        replaced = {one for one in current - here if any(run.current and run.place in places for run in found[one])}
        marked = here <= current and replaced <= asked.locked
    return one_each and marked and receipt["best"].items() <= store.best_models(tracking_uri).items()


def _as_text(receipt: Mapping[str, Any]) -> str:
    return json.dumps(receipt, indent=2) + "\n"


def _write(path: Path, receipt: Mapping[str, Any]) -> None:
    aside = path.with_name(path.name + ".partial")
    aside.write_text(_as_text(receipt), encoding="utf-8")
    aside.replace(path)
