"""A table as Markdown, CSV and JSON: the same cells in the same order."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

from stages.report import Column
from stages.reporting import words
from stages.reporting.comparison import Agreement, Cell, Comparison, Line


def markdown(comparison: Comparison) -> str:
    """Return the table with each row's measured line above its published one, and tau under the columns."""
    table = comparison.table
    header = ["", "", *(heading(column) for column in table.columns)]
    lines = [header, [":--", ":--", *("--:" for _ in table.columns)]]
    for line in comparison.lines:
        lines.extend(_markdown_lines(line, table.columns))
    lines.append(["Kendall's τ", "", *(words.agreement(column) for column in comparison.columns)])
    body = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |" for cells in lines)
    sources = [words.units(comparison), f"Published: {table.source.strip()}"]
    notes = "\n".join(f"- {note}" for note in [*words.caveats(comparison), *sources])
    intro = f"{table.note.strip()}\n\n" if table.note else ""
    return f"# {table.title}\n\n{intro}{words.verdict(comparison)}\n\n{body}\n\n{notes}\n"


def heading(column: Column) -> str:
    """Return a column's heading, with an arrow where lower is better.

    >>> heading(Column(name="EDC AUC", metric="fiqa.auc", unit="fraction", higher_is_better=False))
    'EDC AUC ↓'
    """
    return column.name + ("" if column.higher_is_better else " ↓")


def _markdown_lines(line: Line, columns: tuple[Column, ...]) -> Iterator[list[str]]:
    pairs = list(zip(line.cells, columns, strict=True))
    label = f"**{line.label}**"
    if line.run is not None:
        yield [label, "measured", *(_markdown_measured(cell, column) for cell, column in pairs)]
        label = ""
    if line.run is None or any(cell.published is not None for cell in line.cells):
        published = [words.number(cell.published, column.decimals) for cell, column in pairs]
        yield [label, "published", *published]
    if any(cell.difference is not None for cell in line.cells):
        differences = [words.number(cell.difference, column.decimals, signed=True) for cell, column in pairs]
        yield ["", "difference", *differences]


def _markdown_measured(cell: Cell, column: Column) -> str:
    shown = cell.missing or words.number(cell.measured, column.decimals)
    return f"**{shown}**" if cell.best else shown


def as_csv(comparison: Comparison) -> str:
    """Return one line a row and three fields a column; what no document and no run gives is empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    columns = comparison.table.columns
    parts = ("", " published", " difference")
    names = [column.name + part for column in columns for part in parts]
    writer.writerow(["row", "run", *comparison.table.ablation, *names])
    for line in comparison.lines:
        cells = zip(line.cells, columns, strict=True)
        values = [field for cell, column in cells for field in _csv_fields(cell, column)]
        settings = [line.parameters.get(name, "") for name in comparison.table.ablation]
        writer.writerow([line.label, line.run or "", *settings, *values])
    return stream.getvalue()


def _csv_fields(cell: Cell, column: Column) -> list[str]:
    # plain minus: this is for programs
    values = (cell.measured, cell.published, cell.difference)
    shown = [words.number(value, column.decimals).replace("−", "-") for value in values]
    return [cell.missing or shown[0], *shown[1:]]


def as_tree(comparison: Comparison) -> dict[str, Any]:
    """Return the table as plain data, for the tracker and other programs; values in their column's unit."""
    table = comparison.table
    return {
        "name": comparison.name,
        "title": table.title,
        "source": table.source.strip(),
        "note": table.note.strip(),
        "profile": comparison.scale.profile,
        "verdict": words.verdict(comparison),
        "caveats": words.caveats(comparison),
        "ablation": list(table.ablation),
        "agreement": _agreement_tree(comparison.overall),
        "columns": [
            {**column.model_dump(mode="json"), "agreement": _agreement_tree(found)}
            for column, found in zip(table.columns, comparison.columns, strict=True)
        ],
        "rows": [_row_tree(line, table.columns) for line in comparison.lines],
    }


def _agreement_tree(found: Agreement) -> dict[str, Any]:
    tau, share = found.tau, found.chance
    return {
        "tau": None if tau is None else round(tau, 6),
        "rows": found.rows,
        "concordant": found.pairs.concordant,
        "discordant": found.pairs.discordant,
        "chance": None if share is None else round(share, 6),
    }


def _row_tree(line: Line, columns: tuple[Column, ...]) -> dict[str, Any]:
    return {
        "key": line.key,
        "label": line.label,
        "run": line.run,
        "weights_sha256": line.gathered.weights_sha256 if line.gathered else None,
        "parameters": dict(line.parameters),
        "cells": {
            column.name: {
                "measured": cell.measured,
                "published": cell.published,
                "difference": None if cell.difference is None else round(cell.difference, column.decimals),
                "best": cell.best,
                "missing": cell.missing,
                "reason": cell.reason,
            }
            for cell, column in zip(line.cells, columns, strict=True)
        },
    }
