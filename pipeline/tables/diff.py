"""Compares a table at one commit with another commit or with its current state: each cell before, after, difference.

What a commit has is read as DVC has it: by the hashes in the commit's dvc.lock, from the cache or a remote.
"""

from __future__ import annotations

import csv
import io
import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.base.workspace import Workspace
from pipeline.tables import summary
from stages.core.errors import UnknownNameError

NOW = "now"
Tree = Mapping[str, Any]


@dataclass(frozen=True)
class Sides:
    """Two versions of a table, each as in table.json, and their names."""

    old: Tree
    new: Tree
    old_name: str
    new_name: str


def read(where: Workspace, name: str, revisions: str) -> Sides:
    """Read a table at ``OLD`` and now, or at ``OLD..NEW``.

    Raises:
        LookupError: no such revision, no such table there, or its files are neither in the cache nor in a remote.
    """
    old, _, new = revisions.partition("..")
    after = at(where, name, new) if new else json.loads(summary.table(where, name, "json"))
    return Sides(at(where, name, old), after, old, new or NOW)


def at(where: Workspace, name: str, revision: str) -> Tree:
    """Return a table's data at a commit: the project's output, or the report kept in docs/report."""
    if where.kind == "project":
        found = _made(where.folder, name, revision)
        if found is not None:
            return found
    kept = _kept(where.project, name, revision)
    if kept is None:
        raise UnknownNameError(
            f"{revision} has no table {name!r}: at that commit no dvc.lock has results/tables/{name}/report, "
            "and docs/report does not contain the table"
        )
    return kept


def _made(root: Path, name: str, revision: str) -> Tree | None:
    import dvc.api
    from dvc.exceptions import DvcException, OutputNotFoundError, PathMissingError
    from dvc.scm import RevError
    from dvc_data.index import DataIndexDirError

    path = f"results/tables/{name}/report/table.json"
    try:
        tree: Tree = json.loads(dvc.api.read(path, repo=str(root), rev=revision))
    except RevError as error:
        raise UnknownNameError(f"no revision {revision!r}: give a commit, tag or branch, as HEAD~1") from error
    except (OutputNotFoundError, PathMissingError):
        return None
    except (DvcException, DataIndexDirError, FileNotFoundError) as error:
        raise UnknownNameError(
            f"{path} of {revision} is neither in DVC's cache nor in a remote: check that commit out and run "
            f"`dvc repro tabulate@{name}`"
        ) from error
    return tree


def _kept(root: Path, name: str, revision: str) -> Tree | None:
    """Return the table from docs/report, which is in git."""
    shown = subprocess.run(
        ["git", "show", f"{revision}:docs/report/index.json"], cwd=root, capture_output=True, check=False
    )
    if shown.returncode:
        return None
    tables = json.loads(shown.stdout)["tables"]
    return next((table for table in tables if table["name"] == name), None)


def cells(sides: Sides) -> Iterator[tuple[str, str, Tree | None, Tree | None, int]]:
    """Yield row, column, the cell on each side (None if that side lacks it) and decimals, in the new order."""
    columns = {column["name"]: column["decimals"] for tree in (sides.new, sides.old) for column in tree["columns"]}
    rows = dict.fromkeys(row["label"] for tree in (sides.new, sides.old) for row in tree["rows"])
    found = [{row["label"]: row["cells"] for row in tree["rows"]} for tree in (sides.old, sides.new)]
    for row in rows:
        for column, decimals in columns.items():
            old, new = (side.get(row, {}).get(column) for side in found)
            yield row, column, old, new, decimals


def markdown(sides: Sides) -> str:
    """Return the table with each changed row before, after and the difference."""
    names = list(dict.fromkeys(column for _, column, *_ in cells(sides)))
    lines: dict[str, list[list[str]]] = {}
    for row, _, old, new, decimals in cells(sides):
        before, after, difference = lines.setdefault(row, [[], [], []])
        before.append(_shown(old, decimals))
        after.append(_shown(new, decimals))
        difference.append(_difference(old, new, decimals))
    body = [["", "", *names], [":--", ":--", *["--:"] * len(names)]]
    same = []
    for row, (before, after, difference) in lines.items():
        if before == after:
            same.append(row)
            continue
        body += [[f"**{row}**", sides.old_name, *before], ["", sides.new_name, *after], ["", "difference", *difference]]
    taus = [_tau(tree) for tree in (sides.old, sides.new)]
    said = [f"# {sides.new['title']}: {sides.old_name} and {sides.new_name}", f"Kendall's τ {taus[0]}, then {taus[1]}."]
    if len(body) > 2:
        said.append("\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in body))
    if same:
        said.append("Unchanged: " + ", ".join(same) + ".")
    return "\n\n".join(said)


def as_csv(sides: Sides) -> str:
    """Return one line per cell: old, new and the difference; empty where a side has no number."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["row", "column", sides.old_name, sides.new_name, "difference"])
    for row, column, old, new, decimals in cells(sides):
        values = [_number(None if one is None else one.get("measured"), decimals) for one in (old, new)]
        writer.writerow([row, column, *values, _difference(old, new, decimals).replace("−", "-")])
    return stream.getvalue().rstrip("\n")


def _shown(cell: Tree | None, decimals: int) -> str:
    if cell is None:
        return ""
    spread = f" ± {cell['std']:.{decimals}f}" if cell.get("std") is not None else ""
    return str(cell.get("missing", "")) or _number(cell.get("measured"), decimals) + spread


def _difference(old: Tree | None, new: Tree | None, decimals: int) -> str:
    before, after = ((one or {}).get("measured") for one in (old, new))
    if before is None or after is None:
        return ""
    difference = round(after - before, decimals)
    return f"{difference:+.{decimals}f}".replace("-", "−") if difference else f"{0:.{decimals}f}"


def _number(value: float | None, decimals: int) -> str:
    return "" if value is None else f"{value:.{decimals}f}"


def _tau(tree: Tree) -> str:
    tau = tree["agreement"]["tau"]
    return "not comparable" if tau is None else f"{tau:+.2f}".replace("-", "−")
