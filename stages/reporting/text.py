"""A table as Markdown, CSV and JSON: the same cells in the same order."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

from stages.config.table import Column
from stages.reporting import findings, groups, wording
from stages.reporting.claims import Checked
from stages.reporting.comparison import Cell, Comparison, Line
from stages.reporting.rank_agreement import Agreement


def markdown(comparison: Comparison) -> str:
    """Return the table with each row's measured line above its published one, and tau under the columns."""
    table = comparison.table
    header = ["", "", *(heading(column) for column in table.columns)]
    lines = [header, [":--", ":--", *("--:" for _ in table.columns)]]
    for line in comparison.lines:
        lines.extend(_markdown_lines(line, table.columns))
    if comparison.overall.tau is not None:
        lines.append(["Kendall's τ", "", *(wording.agreement(column) for column in comparison.columns)])
    if comparison.overall.interval:
        lines.append(["", "redrawn seeds", *(wording.interval(column) for column in comparison.columns)])
    body = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |" for cells in lines)
    sources = [wording.units(comparison), f"Published: {table.source.strip()}"]
    claims = "".join(f"- {claim(checked)}\n" for checked in comparison.claims)
    found = findings.found(comparison)
    other = [f"{found.elsewhere}: {found.text}"] if found and not found.here else []
    notes = "\n".join(f"- {note}" for note in [*wording.caveats(comparison), *sources, *other])
    here = found.text if found and found.here else ""
    parts = [f"# {table.title}", table.note.strip(), wording.verdict(comparison), here, body,
             f"Stated in words:\n\n{claims.strip()}" if claims else "", notes, groups.markdown(comparison)]  # fmt: skip
    return "\n\n".join(part for part in parts if part) + "\n"


def claim(checked: Checked) -> str:
    """Return a claim, its source, and the result of checking it."""
    text = checked.claim.text.rstrip(".")
    return f"{text} ({checked.claim.source.strip()}): **{checked.verdict}**; {wording.claim(checked)}."


def heading(column: Column) -> str:
    """Return a column's heading, with an arrow where lower is better.

    >>> heading(Column(name="EDC AUC", metric="fiqa.auc", unit="fraction", higher_is_better=False))
    'EDC AUC ↓'
    """
    return column.name + ("" if column.higher_is_better else " ↓")


def _markdown_lines(line: Line, columns: tuple[Column, ...]) -> Iterator[list[str]]:
    pairs = list(zip(line.cells, columns, strict=True))
    label = f"**{line.label}**"
    if line.gathered is not None:
        yield [label, "measured", *(_markdown_measured(cell, column) for cell, column in pairs)]
        label = ""
    if line.gathered is None or any(cell.published is not None for cell in line.cells):
        published = [wording.number(cell.published, column.decimals) for cell, column in pairs]
        yield [label, "published" if line.gathered else "published only", *published]
    if any(cell.difference is not None or cell.apart for cell in line.cells):
        differences = [wording.difference(cell, column.decimals) for cell, column in pairs]
        yield ["", "difference", *differences]


def _markdown_measured(cell: Cell, column: Column) -> str:
    if not cell.best:
        return wording.measured(cell, column.decimals)
    return f"**{wording.number(cell.measured, column.decimals)}**{wording.spread(cell, column.decimals)}"


def as_csv(comparison: Comparison) -> str:
    """Return one line per row and three fields per column, five with seeds, and where values lack the reason."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    columns = comparison.table.columns
    several = any(len(line.seeds) > 1 for line in comparison.lines)
    lacking = any(cell.reason or cell.apart for line in comparison.lines for cell in line.cells)
    parts = ["", " published", " difference"]
    parts += [" std", " seeds"] if several else []
    parts += [" reason"] if lacking else []
    names = [column.name + part for column in columns for part in parts]
    writer.writerow(["row", "run", *comparison.table.ablation, *names])
    for line in comparison.lines:
        cells = zip(line.cells, columns, strict=True)
        values = [_csv_fields(cell, column)[part] for cell, column in cells for part in parts]
        settings = [line.parameters.get(name, "") for name in comparison.table.ablation]
        writer.writerow([line.label, line.run or "", *settings, *values])
    return stream.getvalue()


def _csv_fields(cell: Cell, column: Column) -> dict[str, str]:
    """Return the fields of a cell by the end of their heading."""
    values = {"": cell.measured, " published": cell.published, " difference": cell.difference, " std": cell.std}
    # plain minus: this is for programs
    shown = {end: wording.number(value, column.decimals).replace("−", "-") for end, value in values.items()}
    shown |= {"": cell.missing or shown[""], " seeds": str(len(cell.by_seed) or "")}
    return {**shown, " reason": cell.reason or cell.apart}


def as_tree(comparison: Comparison) -> dict[str, Any]:
    """Return the table as plain data, for the tracker and other programs; values in their column's unit."""
    table, found = comparison.table, findings.found(comparison)
    return {
        "name": comparison.name,
        "title": table.title,
        "source": table.source.strip(),
        "note": table.note.strip(),
        "digest": findings.digest(comparison.lines),
        "finding": found.text if found and found.here else "",
        "found_elsewhere": f"{found.elsewhere}: {found.text}" if found and not found.here else "",
        "profile": comparison.scale.profile,
        "verdict": wording.verdict(comparison),
        "caveats": wording.caveats(comparison),
        "ablation": list(table.ablation),
        "seeds": comparison.seeds,
        "claims": [_claim_tree(checked) for checked in comparison.claims],
        "agreement": _agreement_tree(comparison.overall),
        "columns": [
            {**column.model_dump(mode="json"), "agreement": _agreement_tree(found)}
            for column, found in zip(table.columns, comparison.columns, strict=True)
        ],
        "rows": [_row_tree(line, table.columns) for line in comparison.lines],
        **({"groups": by_group} if (by_group := groups.as_tree(comparison)) else {}),
    }


def _agreement_tree(found: Agreement) -> dict[str, Any]:
    tau, share, resolved = found.tau, found.chance, found.resolved
    return {
        "tau": None if tau is None else round(tau, 6),
        "rows": found.rows,
        "concordant": found.pairs.concordant,
        "discordant": found.pairs.discordant,
        "chance": None if share is None else round(share, 6),
        "low": round(found.interval.low, 6) if found.interval else None,
        "high": round(found.interval.high, 6) if found.interval else None,
        "seed_taus": [round(one, 6) for one in found.seed_taus],
        "resolved": resolved and {
            "concordant": resolved.concordant,
            "discordant": resolved.discordant,
            "not_resolved": resolved.tied_right,
        },
    }


def _claim_tree(checked: Checked) -> dict[str, Any]:
    return {
        "text": checked.claim.text,
        "source": checked.claim.source,
        "held": checked.held,
        "seeds": checked.seeds,
        "verdict": checked.verdict,
        "found": wording.claim(checked),
    }


def _row_tree(line: Line, columns: tuple[Column, ...]) -> dict[str, Any]:
    cells = zip(line.cells, columns, strict=True)
    return {
        "key": line.key,
        "label": line.label,
        "run": line.run,
        "weights_sha256": line.gathered.weights_sha256 if line.gathered else None,
        "parameters": dict(line.parameters),
        "runs": [
            {"run": run.run, "seed": seed, "weights_sha256": run.weights_sha256}
            for seed, run in line.by_seed.items()
        ],
        "cells": {column.name: _cell_tree(cell, column) for cell, column in cells},
    }


def _cell_tree(cell: Cell, column: Column) -> dict[str, Any]:
    tree: dict[str, Any] = {
        "measured": cell.measured,
        "published": cell.published,
        "difference": None if cell.difference is None else round(cell.difference, column.decimals),
        "best": cell.best,
        "missing": cell.missing,
        "reason": cell.reason,
    }
    if cell.apart:
        tree["apart"] = cell.apart
    if len(cell.by_seed) > 1:
        tree |= {"std": cell.std, "by_seed": {str(seed): value for seed, value in cell.by_seed.items()}}
    return tree
