"""Saves the runs of a sweep in params.yaml as a new table, on request.

Runs keep their names, so that `facet run` restores what the sweep made and trains nothing again.
"""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.workspaces import initial_weights
from pipeline.workspaces.sweeps import Sweep
from stages.core.errors import InputError
from stages.runtime import yaml_edit, yaml_text
from stages.runtime.yaml_edit import YamlEdit


def save(root: Path, asked: Sweep, table: str) -> int:
    """Add runs, rows and the table ``table`` to params.yaml and tables/; return how many runs are new.

    Comments in params.yaml stay as they are. It is written last: a kill before it leaves a table that nothing names,
    and the same save goes on from there.

    Raises:
        ValueError: the name does not fit, or the table or another run of that name is there already.
    """
    if re.fullmatch(r"[a-z][a-z0-9_]*", table) is None:
        raise InputError(f"--save needs a name of lower-case letters, digits and _, such as margins; got {table!r}")
    file = root / "tables" / f"{table}.yaml"
    text, edit = yaml_text.dump(asked.table()), YamlEdit(root / "params.yaml")
    if file.exists() and (table in edit.section("tables") or file.read_text(encoding="utf-8") != text):
        raise InputError(f"{file.relative_to(root)} already exists: save under another name")
    runs, added = edit.section("runs"), 0
    for name, own in asked.runs().items():
        if name not in runs:
            runs[name] = yaml_edit.block(own)
            added += 1
        elif yaml_edit.plain(runs[name]) != own:
            raise InputError(f"params.yaml already has another run {name!r}: rename it")
    for name, folder in initial_weights.section(yaml_edit.plain(runs)).items():
        if name in asked.runs():
            edit.section("initial")[name] = yaml_edit.flow(folder)
    for name, row in asked.rows(table).items():
        edit.section("rows")[name] = yaml_edit.flow(row)
    edit.section("tables")[table] = {}
    yaml_edit.write_all({edit.path: edit.text(), file: text})
    return added
