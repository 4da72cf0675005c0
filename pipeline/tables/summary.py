"""Summary of a run in words and tables: pure text, for the terminal and for Prefect artifacts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pipeline.base import workspace
from pipeline.base.words import few
from pipeline.base.workspace import Workspace
from pipeline.execution.stage_result import GOOD, StageResult
from stages.core.errors import UnknownNameError
from stages.runtime import yaml_text


def sentence(ended: Iterable[StageResult]) -> str:
    """Return a summary of a run in one sentence, which names failed stages.

    >>> ends = {"unpack": "executed", "train@a": "failed", "row@a": "skipped"}
    >>> sentence(StageResult(state, name=name) for name, state in ends.items())
    'failed: train@a; skipped, because they need it: row@a; 1 executed'
    """
    every = list(ended)
    counts = Counter(one.state for one in every)
    parts = []
    if failed := [one.name for one in every if one.state == "failed"]:
        parts.append(f"failed: {few(failed)}")
    if skipped := [one.name for one in every if one.state == "skipped"]:
        parts.append(f"skipped, because they need {'it' if len(failed) < 2 else 'them'}: {few(skipped)}")
    parts += [f"{counts[state]} {state}" for state in (*GOOD, "stopped") if counts[state]]
    return "; ".join(parts) or "nothing to do"


def report_folder(root: Path, table: str) -> Path:
    """Return the folder in which the stage `tabulate` writes a table."""
    return root / "results" / "tables" / table / "report"


def table(where: Workspace, name: str, format_: str) -> str:
    """Return a finished table in ``format_``: ``md``, ``csv``, ``html``, ``tex`` or ``json``.

    Args:
        where: the workspace to which it belongs.
        name: of the table.
        format_: a suffix.

    Raises:
        LookupError: it is not there; the message says what is, or what to run.
    """
    folder = report_folder(where.folder, name)
    path = folder / f"table.{format_}"
    if path.is_file():
        return path.read_text(encoding="utf-8").rstrip("\n")
    there = sorted(entry.stem for entry in (where.project / "tables").glob("*.yaml"))
    if name not in there:
        raise UnknownNameError(f"no table {name!r}: there are {', '.join(there) or 'none'}")
    if others := sorted(entry.suffix[1:] for entry in folder.glob("table.*")):
        raise UnknownNameError(f"table {name!r} is not written as {format_}, only as {', '.join(others)}")
    raise UnknownNameError(f"table {name!r} has not been made yet: run `{_how_to_make(where, name)}`")


def tables(where: Workspace, format_: str) -> str:
    """Return the report of all tables of a workspace.

    Raises:
        LookupError: it has not been made; the message says what to run.
    """
    path = where.folder / "results" / "report" / f"index.{format_}"
    if path.is_file():
        return path.read_text(encoding="utf-8").rstrip("\n")
    run = f"facet ablations --scale {where.name}" if where.kind == "ablations" else "facet run report"
    raise UnknownNameError(f"the report has not been made yet: run `{run}`")


def workspace_with(root: Path, path: str) -> Workspace:
    """Return the workspace that has a file: the project, if it or nobody has it, else the one beside it.

    Raises:
        LookupError: several of those beside it have it.
    """
    if (root / path).exists():
        return workspace.of_project(root)
    there = [one for one in workspace.side_workspaces(root) if (one.folder / path).exists()]
    if len(there) > 1:
        names = ", ".join(one.name for one in there)
        raise UnknownNameError(f"{path} exists for the scales {names}: choose one with --scale")
    return there[0] if there else workspace.of_project(root)


def _how_to_make(where: Workspace, name: str) -> str:
    if where.kind == "project":
        listed = yaml_text.read(where.project / "params.yaml")
        if name in (listed.get("tables") or {}):
            return f"facet run {name}"
    return f"facet ablations {name}" + (f" --scale {where.name}" if where.name else "")


def markdown(root: Path, tables: Sequence[str], links: Mapping[str, str]) -> str:
    """Return the existing tables, each with its link to MLflow if ``links`` has one."""
    parts = []
    for table in tables:
        path = report_folder(root, table) / "table.md"
        if not path.is_file():
            continue
        text = path.read_text(encoding="utf-8").strip()
        parts.append(text if text.startswith("#") else f"# {table}\n\n{text}")
        if table in links:
            parts.append(f"[Its runs in MLflow]({links[table]})")
    return "\n\n".join(parts) or "No table is finished yet."
