"""All tables as Markdown, CSV, LaTeX and JSON."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from stages.reporting import latex as of_table
from stages.reporting import text, wording
from stages.reporting.comparison import Comparison
from stages.reporting.index import TITLE, overview
from stages.reporting.side_by_side import Beside, sentence

HEADS = (
    "table", "τ", "redrawn seeds", "single seeds", "pairs as published", "told apart by seeds", "orders in words",
    "rows measured", "seeds",
)  # fmt: skip
FIELDS = (
    "table", "row", "label", "run", "column", "metric", "unit", "higher_is_better", "measured", "std", "seeds",
    "published", "difference", "missing", "reason",
)  # fmt: skip


def markdown(comparisons: Sequence[Comparison], besides: Mapping[str, Beside]) -> str:
    """Return the agreement of all tables, and each table under it."""
    lines = [list(HEADS), [":--", *["--:"] * (len(HEADS) - 1)]]
    lines += [[f"{one.table.title} ({one.name})", *overview(one)] for one in comparisons]
    listing = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    parts = [f"# {TITLE}", listing, wording.AGREEMENT]
    for comparison in comparisons:
        parts.append("#" + text.markdown(comparison).strip())
        if comparison.name in besides:
            said = [f"- {sentence(pairing)}" for pairing in besides[comparison.name].pairings]
            parts.append("Side by side:\n\n" + "\n".join(said))
    return "\n\n".join(parts) + "\n"


def as_csv(comparisons: Sequence[Comparison]) -> str:
    """Return one line per cell; missing values are empty."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, FIELDS, lineterminator="\n")
    writer.writeheader()
    for comparison in comparisons:
        for line in comparison.lines:
            for cell, column in zip(line.cells, comparison.table.columns, strict=True):
                place = {"table": comparison.name, "row": line.key, "label": line.label, "run": line.run}
                metric = f"{column.suite}.{column.key(comparison.table.rows[line.key])}"
                said = {"column": column.name, "metric": metric, "unit": column.unit, "missing": cell.missing}
                said["reason"] = cell.reason or cell.apart
                said["higher_is_better"] = str(column.higher_is_better).lower()
                values = {"measured": cell.measured, "std": cell.std, "published": cell.published}
                values["difference"] = cell.difference
                shown = {name: _plain(value, column.decimals) for name, value in values.items()}
                writer.writerow({**place, **said, **shown, "seeds": len(cell.by_seed) or ""})
    return stream.getvalue()


def _plain(value: float | None, decimals: int) -> str:
    return "" if value is None else f"{value:.{decimals}f}"


def latex(comparisons: Sequence[Comparison]) -> str:
    """Return a document with all tables."""
    floats = [re.sub(r"^%.*\n", "", of_table.latex(one), flags=re.MULTILINE) for one in comparisons]
    packages = [rf"\usepackage{{{name}}}" for name in of_table.PACKAGES]
    head = [r"\documentclass[a4paper]{article}", r"\usepackage[margin=15mm]{geometry}", *packages]
    # a page each: LaTeX holds no more than 18 floats back
    return "\n".join([*head, r"\begin{document}", *(one + "\\clearpage" for one in floats), r"\end{document}"]) + "\n"


def as_tree(comparisons: Sequence[Comparison], besides: Mapping[str, Beside]) -> dict[str, Any]:
    """Return everything as plain data."""
    return {
        "tables": [text.as_tree(comparison) for comparison in comparisons],
        "beside": {
            name: [
                {
                    "left": pairing.left,
                    "right": pairing.right,
                    "tau": pairing.tau,
                    "low": pairing.interval.low if pairing.interval else None,
                    "high": pairing.interval.high if pairing.interval else None,
                    "reversed": list(pairing.reversed),
                    "said": sentence(pairing),
                }
                for pairing in one.pairings
            ]
            for name, one in besides.items()
        },
    }


def as_json(tree: Mapping[str, Any]) -> str:
    """Return ``as_tree`` as JSON in short, one line a row of a table, so that it diffs well; fields of cells may lack.

    >>> print(as_json({"tables": [{"name": "heads", "rows": [{"key": "a"}, {"key": "b"}]}], "beside": {}}))
    {"tables":[
    {"name":"heads","rows":[
    {"key":"a"},
    {"key":"b"}]}],
    "beside":{}}
    """
    tables = []
    for table in tree["tables"]:
        head = _short({name: value for name, value in table.items() if name != "rows"}).removesuffix("}")
        rows = ",\n".join(_short(_without_empty(row)) for row in table["rows"])
        tables.append(f'{head},"rows":[\n{rows}]}}')
    return '{"tables":[\n' + ",\n".join(tables) + f'],\n"beside":{_short(tree["beside"])}}}'


def _without_empty(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row without those fields of its cells that are None, empty or False, and the weights that `runs` has."""
    cells = row.get("cells", {}).items()
    kept = {
        name: {key: value for key, value in cell.items() if value is not None and value is not False and value != ""}
        for name, cell in cells
    }
    rest = {key: value for key, value in row.items() if not (key == "weights_sha256" and row.get("runs"))}
    return {**rest, "cells": kept} if kept else rest


def _short(tree: Any) -> str:
    return json.dumps(tree, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
