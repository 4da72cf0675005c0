"""MLflow's backend store: a SQLite database under tracking/, or the one in MLFLOW_TRACKING_URI.

Nothing here imports MLflow unless the database has to be made: that takes seconds.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from pipeline.tracking.desired import Scope
from stages.core.errors import InputError

TRACKING = Path("tracking")
PROJECT = Scope()
LOCK_TIMEOUT_S = 900.0
_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    # the default is 7 tries of two minutes each: a dead server would hold up `dvc repro` for half an hour
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
_FINGERPRINTS = """
    SELECT mine.value, current.value, runs.status, place.value, stands.value FROM tags AS mine
    JOIN runs ON runs.run_uuid = mine.run_uuid AND runs.lifecycle_stage = 'active'
    JOIN experiment_tags AS place ON place.experiment_id = runs.experiment_id AND place.key = 'facet.key'
    LEFT JOIN tags AS current ON current.run_uuid = mine.run_uuid AND current.key = 'facet.current'
    LEFT JOIN tags AS stands ON stands.run_uuid = mine.run_uuid AND stands.key = 'facet.where'
    WHERE mine.key = 'facet.fingerprint'
"""
_EXPERIMENT = """
    SELECT experiments.experiment_id FROM experiments
    JOIN experiment_tags AS tags ON tags.experiment_id = experiments.experiment_id
    WHERE experiments.lifecycle_stage = 'active' AND tags.key = 'facet.key' AND tags.value = ?
"""

_CURRENT = """
    SELECT stage.value, runs.experiment_id, runs.run_uuid, place.value FROM runs
    JOIN experiment_tags AS place ON place.experiment_id = runs.experiment_id AND place.key = 'facet.key'
    JOIN tags AS stage ON stage.run_uuid = runs.run_uuid AND stage.key = 'facet.stage'
    JOIN tags AS current ON current.run_uuid = runs.run_uuid AND current.key = 'facet.current'
    WHERE runs.lifecycle_stage = 'active' AND runs.status = 'FINISHED' AND current.value = 'true'
"""
_COMMITS = """
    SELECT mine.value, made.value, dirty.value, place.value FROM tags AS mine
    JOIN runs ON runs.run_uuid = mine.run_uuid AND runs.lifecycle_stage = 'active' AND runs.status = 'FINISHED'
    JOIN experiment_tags AS place ON place.experiment_id = runs.experiment_id AND place.key = 'facet.key'
    JOIN tags AS made ON made.run_uuid = mine.run_uuid AND made.key = 'facet.git_commit'
    LEFT JOIN tags AS dirty ON dirty.run_uuid = mine.run_uuid AND dirty.key = 'facet.git_dirty'
    WHERE mine.key = 'facet.fingerprint' ORDER BY runs.start_time DESC
"""
_BEST = """
    SELECT aliases.name, tags.value FROM registered_model_aliases AS aliases
    JOIN model_version_tags AS tags ON tags.name = aliases.name AND tags.version = aliases.version
    WHERE aliases.alias = 'best' AND tags.key = 'facet.model_key'
"""


def uri(root: Path) -> str:
    """Return the tracking URI: MLFLOW_TRACKING_URI, else the database under ``root``."""
    given = os.environ.get("MLFLOW_TRACKING_URI")
    return given or f"sqlite:///{(root / TRACKING / 'mlflow.db').resolve()}"


def database(tracking_uri: str) -> Path | None:
    """Return the file of a SQLite store, None for any other.

    >>> database("sqlite:////srv/mlflow.db"), database("http://127.0.0.1:5000")
    (PosixPath('/srv/mlflow.db'), None)
    """
    prefix = "sqlite:///"
    return Path(tracking_uri.removeprefix(prefix)) if tracking_uri.startswith(prefix) else None


def artifact_root(tracking_uri: str) -> str | None:
    """Return the artifact folder: beside a SQLite database; None where the server decides."""
    path = database(tracking_uri)
    return None if path is None else (path.resolve().parent / "artifacts").as_uri()


@contextlib.contextmanager
def alone(root: Path) -> Iterator[None]:
    """Lock the store against other processes of this project; the kernel releases the lock if we are killed.

    Raises:
        TimeoutError: another process held it for a quarter of an hour.
    """
    folder = root / TRACKING
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=LOCK_TIMEOUT_S):
            yield
    except Timeout as error:
        raise TimeoutError(f"another process has held {folder} for {LOCK_TIMEOUT_S:.0f} s") from error


def settle_environment() -> None:
    """Set MLflow's environment defaults before import: no telemetry, no progress bars, no endless retries."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)


def prepare(tracking_uri: str) -> None:
    """Create or upgrade a SQLite store; only call it inside `alone`, since MLflow's migrations must not race.

    Raises:
        ValueError: the file is no database, or it was made in another folder, where its artifacts still are.
    """
    settle_environment()
    path = database(tracking_uri)
    if path is None:
        return
    path = path.resolve()
    _refuse_foreign(path)
    state = {"mlflow": importlib.metadata.version("mlflow"), "folder": str(path.parent)}
    marker = path.with_name("store.json")
    made = _read(marker)
    if made.get("folder") not in (None, state["folder"]):
        raise InputError(f"{path} was created in {made['folder']}, with its artifacts: delete {path.parent}")
    if made != state or not path.is_file():
        _create_or_upgrade(path)
        marker.write_text(json.dumps(state) + "\n", encoding="utf-8")


def _create_or_upgrade(path: Path) -> None:
    from mlflow.store.db import utils

    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file() and path.stat().st_size:
        uri_here = f"sqlite:///{path}"
        # what `mlflow db upgrade` does; on an up-to-date database it changes nothing
        utils._upgrade_db(utils.create_sqlalchemy_engine_with_retry(uri_here))
        _open(uri_here)
        return
    # aside: who is killed half-way leaves tables that no upgrade understands
    aside = path.with_name(path.name + ".partial")
    for end in ("", "-journal", "-wal", "-shm"):
        aside.with_name(aside.name + end).unlink(missing_ok=True)
    _open(f"sqlite:///{aside}")
    aside.replace(path)


def _open(tracking_uri: str) -> None:
    """Have MLflow create missing tables of a database, then close it: an open database must not be moved."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore(tracking_uri, artifact_root(tracking_uri)).engine.dispose()


class Recorded(NamedTuple):
    """A recorded run in the store, as its tags describe it."""

    status: str
    current: bool
    place: tuple[str, str]
    """The key of its experiment, and its place there (``facet.where``)."""


def recorded(tracking_uri: str, mine: Callable[[str], bool] = PROJECT.has) -> dict[str, list[Recorded]] | None:
    """Return the runs of each fingerprint, without importing MLflow.

    None where that is not possible: no SQLite, no database yet, or tables of another version.

    Args:
        tracking_uri: of the store.
        mine: says of an experiment's key whether its runs are asked for.
    """
    rows = _query(tracking_uri, _FINGERPRINTS)
    if rows is None:
        return None
    found: dict[str, list[Recorded]] = {}
    for fingerprint, current, status, key, where in rows:
        if mine(key):
            found.setdefault(fingerprint, []).append(Recorded(status, current == "true", (key, where)))
    return found


def best_models(tracking_uri: str) -> dict[str, str]:
    """Return the model key behind the alias ``best`` of each registered model, without importing MLflow."""
    return dict(_query(tracking_uri, _BEST) or [])


def experiment_id(tracking_uri: str, key: str) -> str | None:
    """Return the ID of our experiment ``key`` in a SQLite store, read without MLflow; None if it has none."""
    rows = _query(tracking_uri, _EXPERIMENT, key)
    return str(rows[0][0]) if rows else None


def current_runs(tracking_uri: str, scope: Scope = PROJECT) -> list[tuple[str, str, str]]:
    """Return stage, experiment's ID and run's ID of each current run in a SQLite store, read without MLflow."""
    rows = _query(tracking_uri, _CURRENT) or []
    return [(stage, str(experiment), run) for stage, experiment, run, key in rows if scope.has(key)]


def commits(tracking_uri: str, scope: Scope = PROJECT) -> dict[str, str]:
    """Return the commit at which each fingerprint was recorded first, from a SQLite store, read without MLflow."""
    rows = _query(tracking_uri, _COMMITS) or []
    return {
        fingerprint: commit + (", with changes" if dirty == "true" else "")
        for fingerprint, commit, dirty, key in rows
        if scope.has(key)
    }


def _query(tracking_uri: str, sql: str, *values: str | int) -> list[Any] | None:
    path = database(tracking_uri)
    if path is None or not path.is_file():
        return None
    try:
        opened = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=20)
        with contextlib.closing(opened):
            return opened.execute(sql, values).fetchall()
    except sqlite3.Error:
        return None


def _refuse_foreign(path: Path) -> None:
    if path.is_file() and path.stat().st_size:
        with path.open("rb") as stream:
            if stream.read(16) != b"SQLite format 3\0":
                raise InputError(f"{path} is not a SQLite database: delete it, then run `facet track`")


def _read(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return tree if isinstance(tree, dict) else {}
