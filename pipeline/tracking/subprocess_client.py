"""Calls the MLflow code in separate processes: importing MLflow takes seconds."""

from __future__ import annotations

import json
import selectors
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.base import environment
from pipeline.base.workspace import Workspace
from stages.core.errors import OperationError

INITIALISE = "from pipeline.tracking import sync; print(sync.initialise_store())"
LINKS = (
    "import json, sys; from pathlib import Path; from pipeline.tracking import sync, desired\n"
    "base, workspace, kind, *tables = sys.argv[1:]\n"
    "scope = desired.Scope(workspace or None, kind)\n"
    "print(json.dumps({table: sync.experiment_url(base, table, Path(), scope) for table in tables}))"
)


def initialise_store(root: Path) -> str:
    """Create or upgrade MLflow's database; return its URI.

    Raises:
        RuntimeError: that failed.
    """
    return _answer(root, INITIALISE)


def track(where: Workspace, say: Callable[[str], None], stopped: Callable[[], bool] = lambda: False) -> int:
    """Record what is finished in a workspace, calling ``say`` with each line it prints; return its exit code.

    Args:
        where: the workspace.
        say: called with lines.
        stopped: asked now and then whether to give up; the next call goes on from there.
    """
    program = ["pipeline.track"]
    if where.kind != "project":
        program += ["--workspace", where.text]
    with subprocess.Popen(
        [sys.executable, "-m", *program],
        cwd=where.project,
        env=environment.for_children(),
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            line = "-"
            while line:
                if stopped():
                    process.terminate()
                if selector.select(timeout=0.5):
                    line = process.stdout.readline()
                    if line.strip():
                        say(line.rstrip())
    return process.returncode


def experiment_links(where: Workspace, mlflow_url: str, tables: Sequence[str]) -> dict[str, str]:
    """Return where MLflow shows each of a workspace's ``tables``, as far as it is recorded."""
    if not tables:
        return {}
    try:
        links = json.loads(_answer(where.project, LINKS, mlflow_url, where.name, where.kind, *tables))
    except RuntimeError:
        return {}
    return {table: link for table, link in links.items() if link}


def run_links(where: Workspace, mlflow_url: str) -> dict[str, str]:
    """Return the MLflow address of each recorded stage's current run: training, row, report."""
    from pipeline.tracking import store
    from pipeline.tracking.desired import scope_of

    return {
        stage: f"{mlflow_url.rstrip('/')}/#/experiments/{experiment}/runs/{run}"
        for stage, experiment, run in store.current_runs(store.uri(where.project), scope_of(where))
    }


def _answer(root: Path, code: str, *arguments: str) -> str:
    """Return the last line that the program ``code`` prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=root,
        env=environment.for_children(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise OperationError(f"MLflow's database cannot be opened: {environment.last_line(done.stderr)}")
    return environment.last_line(done.stdout)
