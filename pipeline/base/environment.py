"""The project's folders, and the environment for its programs and servers."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.core.errors import UnknownNameError
from stages.runtime import files, program

# nothing we start calls home
QUIET = {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}

# what git tells a hook: it names the repository of the hook, wherever a command of git's is started
OF_A_HOOK = (
    "GIT_DIR", "GIT_WORK_TREE", "GIT_IMPLICIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_PREFIX",
    "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_QUARANTINE_PATH", "GIT_NAMESPACE",
    "GIT_SHALLOW_FILE", "GIT_GRAFT_FILE",
)  # fmt: skip

PROXIES = ("http_proxy", "https_proxy", "all_proxy")
LOOPBACK = ("127.0.0.1", "localhost", "::1")


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
    activated the environment; output is not held back, so that logs are live. Git's variables of a hook are left
    out: git works on the repository of the folder that a process is in. A proxy is not asked for this machine.
    """
    given = os.environ if base is None else base
    environment = {name: value for name, value in given.items() if name not in OF_A_HOOK}
    here = str(Path(sys.executable).parent)
    folders = environment.get("PATH", os.defpath).split(os.pathsep)
    environment["PATH"] = os.pathsep.join([here, *(folder for folder in folders if folder != here)])
    environment["PYTHONUNBUFFERED"] = "1"
    return environment | _past_proxies(environment) | QUIET


def enter(root: Path) -> None:
    """Give this process the environment that its children get.

    A user that the system does not know (a container started with ``--user``) gets a name, and a home in the state
    folder: DVC, MLflow and Prefect each end without one.
    """
    program.name_user()
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = str(state_folder(root).absolute() / "home")
    os.environ.update(for_children())
    for name in OF_A_HOOK:
        os.environ.pop(name, None)


def _past_proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """Return ``no_proxy`` with this machine in it, in both spellings that programs read; empty without a proxy."""
    if not any(environment.get(name) for name in environment if name.lower() in PROXIES):
        return {}
    given = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    names = [name.strip() for name in given.split(",") if name.strip()]
    if "*" in names:
        return {}
    value = ",".join(dict.fromkeys([*names, *LOOPBACK]))
    return {"no_proxy": value, "NO_PROXY": value}


def prefect_settings(root: Path, api_url: str | None = None) -> dict[str, str]:
    """Return Prefect's settings: its files stay in the project, and results and caching are left to DVC."""
    settings = flow_settings() | {
        "PREFECT_HOME": str(state_folder(root) / "prefect"),
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
    }
    return settings if api_url is None else settings | {"PREFECT_API_URL": api_url}


def flow_settings() -> dict[str, str]:
    """Return those of Prefect's settings that a flow run needs on any machine."""
    return {
        "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
        # by which the server notices that a flow run's process is dead: pipeline/servers/crash_automation.py
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        # the clone's environment is what `make install` made
        "PREFECT_RUNNER_AUTO_INSTALL_DEPENDENCIES": "false",
        # 14 s of patience with a server that is away, where the default is a minute for each request
        "PREFECT_CLIENT_MAX_RETRIES": "3",
    }


def without_password(address: str) -> str:
    """Return the address of a server or database without user, password and options: for people, pages and files.

    >>> without_password("https://me:secret@mlflow.example:5000/team"), without_password("sqlite:////srv/mlflow.db")
    ('https://mlflow.example:5000/team', 'sqlite:////srv/mlflow.db')
    """
    # not urlsplit: a password with `/` or `#` in it, which nobody escaped, would count as a path
    found = re.fullmatch(r"([\w+.-]+://)(?!/)(?:.*@)?([^/?#]+[^?#]*)(?:[?#].*)?", address, re.DOTALL)
    return found[1] + found[2] if found else address


def without_passwords(text: str, *addresses: str | None) -> str:
    """Return a message in which each of these addresses, and each user and password in them, is left out."""
    for address in filter(None, addresses):
        text = text.replace(address, without_password(address))
        if login := re.match(r"[\w+.-]+://(.+)@", address, re.DOTALL):
            text = text.replace(login[1], "***")
    return text


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
    """Read a JSON object of ours; empty if the file is missing or damaged, because state may be deleted."""
    try:
        tree = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
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
