"""Page of a single run: drawn by the code of stages, completed by what DVC, git and MLflow know, attached in MLflow."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from pipeline.base import environment
from pipeline.base.workspace import Workspace
from pipeline.tables import provenance
from pipeline.tracking import lineage, recorded_ids, store
from stages.core.errors import InputError, OperationError
from stages.runtime import files

ARTIFACTS = "page"
"""Folder of the page among the artifacts of an MLflow run."""


_REFUSED = 2
"""Exit code of a program that printed what to do in one sentence."""


def path_of(where: Workspace, run: str) -> Path:
    """Return where the page of a run is written."""
    return where.folder / "results" / run / "page" / "index.html"


def write(
    where: Workspace, run: str, say: Callable[[str], None], *, sets: str = "", pairs: bool = True
) -> Path:
    """Write the page of a run and return its path, relative to the project if it is inside.

    Args:
        where: the workspace in which it was trained.
        run: its name.
        say: called with each line of progress.
        sets: verification sets whose worst pairs are shown, with commas between; empty: all.
        pairs: whether pairs are shown at all.

    Raises:
        ValueError: it was not trained there, or a set is unknown.
        RuntimeError: the program that draws the page failed.
    """
    if not where.folder.is_dir():
        raise InputError(f"{where.folder} is not there: run `facet ablations --scale {where.name}` first")
    options = [*(["--sets", sets] if sets else []), *([] if pairs else ["--no-pairs"])]
    error = ""
    with subprocess.Popen(
        [sys.executable, "-m", "stages.tools.show", run, *options],
        cwd=where.folder, env=environment.for_children(), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("error: "):
                error = line.removeprefix("error: ").strip()
            else:
                say(line.rstrip())
    if process.returncode:
        text = error or f"the program that draws the page of {run} failed; its last lines are above"
        raise (InputError if process.returncode == _REFUSED else OperationError)(text)
    path = path_of(where, run)
    completed = provenance.add(path.read_text(encoding="utf-8"), where, pages=False)
    with files.replacing(path) as aside:
        aside.write_text(completed, encoding="utf-8")
    return path.relative_to(where.project) if path.is_relative_to(where.project) else path


def attach(where: Workspace, run: str) -> str:
    """Put the page among the artifacts of the run's record in MLflow; return its address there, empty if there is none.

    Raises:
        RuntimeError: MLflow does not take it.
    """
    entry = lineage.read(where.folder).entries.get(f"train_backbone@{run}")
    recorded = recorded_ids.runs(where).get(lineage.fingerprint(entry)) if entry else None
    if recorded is None:
        return ""
    tracking_uri = store.uri(where.project)
    store.settle_environment()
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    with store.alone(where.project):
        try:
            MlflowClient(tracking_uri).log_artifact(recorded.run, str(path_of(where, run)), ARTIFACTS)
        except (MlflowException, OSError) as error:
            reason = environment.without_passwords(str(error).partition("\n")[0], tracking_uri)
            raise OperationError(f"the page is written, but MLflow did not take it: {reason}") from error
    address = provenance.mlflow_url(where)
    return f"{recorded.url(address)}/artifacts/{ARTIFACTS}/index.html" if address else f"run {recorded.run}"
