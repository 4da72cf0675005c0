"""Stage `tabulate`: compares a table's rows with the published numbers, as text, data, one HTML page and plots.

Run as `python -m stages.tabulate heads`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pydantic import ValidationError

from stages.config.table import Gathered, Measured, Scale, Table
from stages.core.errors import InputError, UnknownNameError
from stages.reporting import latex, page, plots, text
from stages.reporting.comparison import Comparison, compare
from stages.runtime import artifacts, program


def main(arguments: argparse.Namespace) -> None:
    """Write results/tables/TABLE/report/."""
    name = arguments.table
    comparison = read(name)
    drawn = plots.plots(comparison)
    with artifacts.write_folder(artifacts.report_folder(name)) as folder:
        (folder / "table.md").write_text(text.markdown(comparison), encoding="utf-8")
        (folder / "table.csv").write_text(text.as_csv(comparison), encoding="utf-8")
        (folder / "table.tex").write_text(latex.latex(comparison), encoding="utf-8")
        artifacts.write_json(folder / "table.json", text.as_tree(comparison))
        (folder / "table.html").write_text(page.html(comparison, drawn), encoding="utf-8")
        for plot in drawn:
            (folder / f"{plot.name}.svg").write_text(plots.draw(plot.panels), encoding="utf-8")


def read(name: str, root: Path = Path()) -> Comparison:
    """Return a table with all gathered results of the project at ``root``, as `resolve` defines it.

    Raises:
        FileNotFoundError: the resolved table, or a row that a run measures, is missing.
        ValueError: a row's file does not fit, or is another run's.
        LookupError: a column or an ablation parameter that no run has.
    """
    resolved = root / artifacts.RESOLVED / "tables" / f"{name}.yaml"
    table = artifacts.read_section(resolved, "table", Table)
    scale = artifacts.read_section(resolved, "scale", Scale)
    rows = artifacts.read_section(resolved, "measured", Measured).root
    gathered = {
        key: [read_row(root / artifacts.row_file(name, row), row, run) for row, run in files.items()]
        for key, files in rows.items()
    }
    try:
        return compare(name, table, scale, gathered)
    except (InputError, UnknownNameError) as error:
        raise type(error)(f"tables/{name}.yaml, {error}") from error


def read_row(path: Path, row: str, run: str) -> Gathered:
    """Return the gathered results of one seed of a row; ``row`` is its full name, TABLE-ROW[-N].

    Raises:
        FileNotFoundError: it was not gathered.
        ValueError: its file does not fit, or is another run's.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: row@{row} writes it; run `dvc repro`")
    try:
        gathered = Gathered.model_validate(artifacts.read_json(path))
    except ValidationError as error:
        raise InputError(f"{path}: {artifacts.explain(error)}; run `dvc repro`") from error
    if gathered.run != run:
        raise InputError(f"{path} is of run {gathered.run}, but the table needs {run}: run `dvc repro`")
    return gathered


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("table", help="name under `tables` in params.yaml")
    return options


if __name__ == "__main__":
    sys.exit(program.run(main, parser()))
