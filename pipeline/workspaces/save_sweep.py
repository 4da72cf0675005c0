"""Saves the runs of a sweep in params.yaml as a new table, on request.

Runs keep their names, so that `facet run` restores what the sweep made and trains nothing again.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

from pipeline.workspaces.sweeps import Sweep
from stages.core.errors import InputError
from stages.runtime import yaml_text


def save(root: Path, asked: Sweep, table: str) -> int:
    """Add runs, rows and the table ``table`` to params.yaml and tables/; return how many runs are new.

    Comments in params.yaml stay as they are.

    Raises:
        ValueError: the name does not fit, or the table or another run of that name is there already.
    """
    from ruamel.yaml import YAML

    if re.fullmatch(r"[a-z][a-z0-9_]*", table) is None:
        raise InputError(f"--save needs a name of lower-case letters, digits and _, such as margins; got {table!r}")
    file = root / "tables" / f"{table}.yaml"
    if file.exists():
        raise InputError(f"{file.relative_to(root)} already exists: save under another name")
    writer = YAML()
    writer.width = 200
    tree: Any = writer.load((root / "params.yaml").read_text(encoding="utf-8"))
    added = 0
    for name, own in asked.runs().items():
        if name not in tree["runs"]:
            tree["runs"][name] = own
            added += 1
        elif _plain(tree["runs"][name]) != own:
            raise InputError(f"params.yaml already has another run {name!r}: rename it")
    for name, row in asked.rows(table).items():
        tree.setdefault("rows", {})[name] = row
    tree.setdefault("tables", {})[table] = {}
    stream = io.StringIO()
    writer.dump(tree, stream)
    file.write_text(yaml_text.dump(asked.table()), encoding="utf-8")
    (root / "params.yaml").write_text(stream.getvalue(), encoding="utf-8")
    return added


def _plain(tree: Any) -> Any:
    """Return ruamel's mappings and numbers as Python's own."""
    if isinstance(tree, dict):
        return {str(key): _plain(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_plain(value) for value in tree]
    for kind in (bool, int, float, str):
        if isinstance(tree, kind):
            return kind(tree)
    return tree
