"""The project's folders, and the environment for its programs and servers."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.core.errors import UnknownNameError
from stages.runtime import files

# nothing we start calls home
QUIET = {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}


def find_root(start: Path | None = None) -> Path:
    """Return the project's root: the nearest folder upwards with ``dvc.yaml`` and ``.dvc``.

    Raises:
        LookupError: there is none.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "dvc.yaml").is_file() and (folder / ".dvc").is_dir():
            return folder
    raise UnknownNameError(
        f"{here} is not in a facet project (no dvc.yaml and .dvc here or above): change to the project's folder"
    )


def state_folder(root: Path) -> Path:
    """Return the folder for logs, leases and databases: ``.facet`` or ``FACET_HOME``."""
    return root / os.environ.get("FACET_HOME", ".facet")


def log_folder(root: Path) -> Path:
    """Return the folder of the logs of stages and servers."""
    return state_folder(root) / "logs"


def num_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def for_children(base: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of every process that is started here.

    This interpreter's ``python`` and ``dvc`` come first, so that ``dvc.yaml`` works although nobody
    activated the environment; output is not held back, so that logs are live.
    """
    environment = dict(os.environ if base is None else base)
    here = str(Path(sys.executable).parent)
    folders = environment.get("PATH", os.defpath).split(os.pathsep)
    environment["PATH"] = os.pathsep.join([here, *(folder for folder in folders if folder != here)])
    environment["PYTHONUNBUFFERED"] = "1"
    return environment | QUIET


def prefect_settings(root: Path, api_url: str | None = None) -> dict[str, str]:
    """Return Prefect's settings: its files stay in the project, and results and caching are left to DVC."""
    settings = {
        "PREFECT_HOME": str(state_folder(root) / "prefect"),
        "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        # by which the server notices that a flow run's process is dead: pipeline/servers/crash_automation.py
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        # 14 s of patience with a server that is away, where the default is a minute for each request
        "PREFECT_CLIENT_MAX_RETRIES": "3",
    }
    return settings if api_url is None else settings | {"PREFECT_API_URL": api_url}


def free_port(wanted: int) -> int:
    """Return ``wanted`` if nothing listens there on loopback, otherwise a free port."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            # without it a port whose last connections are still in TIME_WAIT looks taken
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no port is free on 127.0.0.1")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of ours; empty if the file is missing or truncated, because state may be deleted."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return tree if isinstance(tree, dict) else {}


def write_json(path: Path, tree: Mapping[str, Any]) -> None:
    """Write a JSON object to a temporary file, then move it into place."""
    with files.replacing(path, shared=True) as aside:
        aside.write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")


def last_line(text: str) -> str:
    """Return the last line that is not blank."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no output"
