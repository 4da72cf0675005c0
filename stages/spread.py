"""Stage `spread`: the table of a sweep, one line a variant: mean and standard deviation over its seeds.

`facet run --set ... --seeds ...` writes the sweep's description and runs this last, in the sweep's own workspace.

Run as `python -m stages.spread sweep.yaml`.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, Field, ValidationError

from stages import artifacts, program
from stages.core.spread import Spread, spread
from stages.report import Column

FOLDER = artifacts.RESULTS / "spread"


class Variant(BaseModel, extra="forbid", frozen=True):
    """One setting of what is swept."""

    label: str
    settings: dict[str, Any] = Field(description="by axis: run, head.margin")
    runs: dict[str, int | None] = Field(min_length=1, description="its trainings and their seeds")


class Sweep(BaseModel, extra="forbid", frozen=True):
    """What `facet run --set` asked for."""

    title: str
    axes: tuple[str, ...]
    columns: tuple[Column, ...] = Field(min_length=1)
    variants: tuple[Variant, ...] = Field(min_length=1)


Cell = tuple[Column, dict[str, float | None], Spread | None]


def main(arguments: argparse.Namespace) -> None:
    """Write results/spread/table.{md,csv,json}."""
    sweep = read(Path(arguments.sweep))
    rows = [(variant, [cell(variant, column) for column in sweep.columns]) for variant in sweep.variants]
    with artifacts.write_folder(FOLDER) as folder:
        (folder / "table.md").write_text(markdown(sweep, rows), encoding="utf-8")
        (folder / "table.csv").write_text(as_csv(sweep, rows), encoding="utf-8")
        artifacts.write_json(folder / "table.json", as_tree(sweep, rows))


def read(path: Path) -> Sweep:
    """Read the description of a sweep.

    Raises:
        ValueError: it does not fit.
    """
    try:
        return Sweep.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise ValueError(f"{path}: {artifacts.explain(error)}") from error


def cell(variant: Variant, column: Column) -> Cell:
    """Return what each run of a variant measured in a column's own unit as shown, and its spread.

    Raises:
        LookupError: a suite has no such metric.
    """
    suite, _, key = column.metric.partition(".")
    factor = 100 if column.unit == "percent" else 1
    values: dict[str, float | None] = {}
    for run in variant.runs:
        metrics = artifacts.read_json(artifacts.metrics_file(run, suite))
        if key not in metrics:
            raise LookupError(f"results/{run}/{suite}.json has no {key}: it has {', '.join(sorted(metrics))}")
        values[run] = None if metrics[key] is None else metrics[key] * factor
    return column, values, spread(list(values.values()))


def markdown(sweep: Sweep, rows: Sequence[tuple[Variant, list[Cell]]]) -> str:
    """Return the table, the best mean of each column in bold."""
    headings = [column.name if column.higher_is_better else f"{column.name} ↓" for column in sweep.columns]
    header = [*sweep.axes, "seeds", *headings]
    lines = [header, [":--"] * len(sweep.axes) + ["--:"] * (len(sweep.columns) + 1)]
    best = [_best([cells[i][2] for _, cells in rows], column) for i, column in enumerate(sweep.columns)]
    for variant, cells in rows:
        shown = [_shown(one, column, top) for (column, _, one), top in zip(cells, best, strict=True)]
        settings = [str(variant.settings.get(axis, "")) for axis in sweep.axes]
        lines.append([*settings, str(len(variant.runs)), *shown])
    body = "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines)
    percent = [column.name for column in sweep.columns if column.unit == "percent"]
    notes = ["mean ± standard deviation over seeds (divisor n - 1); bold: the best mean, not a test"]
    notes += ["in percent: " + ", ".join(percent)] if percent else []
    return f"# {sweep.title}\n\n{body}\n\n" + "\n".join(f"- {note}" for note in notes) + "\n"


def _best(spreads: Sequence[Spread | None], column: Column) -> float | None:
    means = [round(one.mean, column.decimals) for one in spreads if one is not None]
    if len(set(means)) < 2:
        return None
    return max(means) if column.higher_is_better else min(means)


def _shown(one: Spread | None, column: Column, best: float | None) -> str:
    if one is None:
        return "-"
    mean = f"{one.mean:.{column.decimals}f}"
    text = f"**{mean}**" if round(one.mean, column.decimals) == best else mean
    return text if one.std is None else f"{text} ± {one.std:.{column.decimals}f}"


def as_csv(sweep: Sweep, rows: Sequence[tuple[Variant, list[Cell]]]) -> str:
    """Return one line a run, for programs that plot: settings, seed, values in the columns' units."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*sweep.axes, "seed", "run", *(column.name for column in sweep.columns)])
    writer.writerows(_lines(sweep, rows))
    return stream.getvalue()


def _lines(sweep: Sweep, rows: Sequence[tuple[Variant, list[Cell]]]) -> Iterator[list[Any]]:
    for variant, cells in rows:
        for run, seed in variant.runs.items():
            settings = [variant.settings.get(axis, "") for axis in sweep.axes]
            yield [*settings, "" if seed is None else seed, run, *(values[run] for _, values, _ in cells)]


def as_tree(sweep: Sweep, rows: Sequence[tuple[Variant, list[Cell]]]) -> dict[str, Any]:
    """Return everything as plain data."""
    return {
        "title": sweep.title,
        "axes": list(sweep.axes),
        "columns": [column.model_dump(mode="json") for column in sweep.columns],
        "variants": [
            {
                "label": variant.label,
                "settings": variant.settings,
                "runs": variant.runs,
                "cells": {
                    column.name: {"values": values, **({} if one is None else vars(one))}
                    for column, values, one in cells
                },
            }
            for variant, cells in rows
        ],
    }


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("sweep", help="its description: sweep.yaml")
    return options


if __name__ == "__main__":
    sys.exit(program.run(main, parser()))
