"""Stage `tabulate`: sets a table's rows beside the published numbers, as text, data, one HTML page and plots.

Run as `python -m stages.tabulate heads`.
"""

from __future__ import annotations

import argparse
import sys

from pydantic import ValidationError

from stages import artifacts, program
from stages.report import Gathered, Scale, Table
from stages.reporting import page, plots, text
from stages.reporting.comparison import compare


def main(arguments: argparse.Namespace) -> None:
    """Write results/tables/TABLE/report/."""
    name = arguments.table
    resolved = artifacts.RESOLVED / "tables" / f"{name}.yaml"
    table = artifacts.read_section(resolved, "table", Table)
    scale = artifacts.read_section(resolved, "scale", Scale)
    comparison = compare(name, table, scale, read_rows(name, table))
    drawn = plots.plots(comparison)
    with artifacts.write_folder(artifacts.report_folder(name)) as folder:
        (folder / "table.md").write_text(text.markdown(comparison), encoding="utf-8")
        (folder / "table.csv").write_text(text.as_csv(comparison), encoding="utf-8")
        artifacts.write_json(folder / "table.json", text.as_tree(comparison))
        (folder / "table.html").write_text(page.html(comparison, drawn), encoding="utf-8")
        for plot in drawn:
            (folder / f"{plot.name}.svg").write_text(plots.draw(plot.panels), encoding="utf-8")


def read_rows(name: str, table: Table) -> dict[str, Gathered]:
    """Return what was gathered for each row that a run measures, by the row's key in the table.

    Raises:
        FileNotFoundError: a row was not gathered.
        ValueError: a row's file does not fit, or is another run's.
    """
    rows = {}
    for key, row in table.rows.items():
        if row.run is None:
            continue
        path = artifacts.row_file(name, f"{name}-{key}")
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: row@{name}-{key} writes it; run `dvc repro`")
        try:
            rows[key] = Gathered.model_validate(artifacts.read_json(path))
        except ValidationError as error:
            raise ValueError(f"{path}: {artifacts.explain(error)}; run `dvc repro`") from error
        if rows[key].run != row.run:
            raise ValueError(f"{path} is of run {rows[key].run}, the table wants {row.run}: run `dvc repro`")
    return rows


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("table", help="as under `tables` in params.yaml")
    return options


if __name__ == "__main__":
    sys.exit(program.run(main, parser()))
