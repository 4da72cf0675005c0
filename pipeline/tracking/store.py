"""MLflow's backend store: a SQLite database under tracking/, or the one in MLFLOW_TRACKING_URI.

Nothing here imports MLflow unless the database has to be made: that takes seconds.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipeline.tracking.desired import Scope
from stages.core.errors import InputError
from stages.runtime import files

TRACKING = Path("tracking")
MARKER = "store.json"
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
def alone(root: Path, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
    """Lock the store against other processes of this project; the kernel releases the lock if we are killed.

    Raises:
        TimeoutError: another process held it for so long, by default for a quarter of an hour.
    """
    folder = root / TRACKING
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=timeout_s):
            yield
    except Timeout as error:
        raise TimeoutError(f"another process has held {folder} for {timeout_s:.0f} s") from error


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
    state = _state(path)
    marker = path.with_name(MARKER)
    made = read_facts(marker)
    if made.get("folder") not in (None, state["folder"]):
        raise InputError(
            f"{path} was created in {made['folder']}, and its artifacts' addresses lead there: delete {path.parent}, "
            "then run `facet track`"
        )
    if made != state or not path.is_file():
        _create_or_upgrade(path)
        with files.replacing(marker) as aside:
            aside.write_text(json.dumps(state) + "\n", encoding="utf-8")


def is_prepared(tracking_uri: str) -> bool:
    """Return whether `prepare` has nothing to do, without waiting for its lock."""
    path = database(tracking_uri)
    if path is None:
        return True
    path = path.resolve()
    return path.is_file() and read_facts(path.with_name(MARKER)) == _state(path)


def _state(path: Path) -> dict[str, str]:
    return {"mlflow": importlib.metadata.version("mlflow"), "folder": str(path.parent)}


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


def _refuse_foreign(path: Path) -> None:
    if path.is_file() and path.stat().st_size:
        with path.open("rb") as stream:
            if stream.read(16) != b"SQLite format 3\0":
                raise InputError(f"{path} is not a SQLite database: delete it, then run `facet track`")


def read_facts(path: Path) -> dict[str, Any]:
    """Return a JSON object from a file; empty if it cannot be read."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return tree if isinstance(tree, dict) else {}
