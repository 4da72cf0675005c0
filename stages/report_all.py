"""Stage `report`: all tables as one page, as text, as data and as LaTeX, plus the page of each table.

With `--beside FOLDER` the tables that another profile measured too, in a project of its own, stand beside: published
order, order on synthetic data, order on real faces.

Run as `python -m stages.report_all`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from stages import tabulate
from stages.reporting import all_tables, index, page
from stages.reporting.comparison import Comparison
from stages.reporting.side_by_side import Beside, beside
from stages.runtime import artifacts, program

FOLDER = artifacts.RESULTS / "report"


def main(arguments: argparse.Namespace) -> None:
    """Write index.html, .md, .csv, .json and .tex, NAME.html of each table, and the style that the pages share."""
    root = Path(arguments.root)
    comparisons, unfinished = read(root)
    besides = witnesses(comparisons, Path(arguments.beside)) if arguments.beside else {}
    with artifacts.write_folder(Path(arguments.out) if arguments.out else root / FOLDER) as folder:
        write(folder, root, comparisons, besides, unfinished)


def read(root: Path) -> tuple[list[Comparison], dict[str, str]]:
    """Return the tables of a project in the order of their names, and why others are not finished.

    Within the graph all are; by hand a report can be made while runs go on.

    Raises:
        FileNotFoundError: none is finished.
    """
    found, unfinished = [], {}
    for path in sorted((root / artifacts.RESOLVED / "tables").glob("*.yaml")):
        try:
            found.append(tabulate.read(path.stem, root))
        except FileNotFoundError as error:
            unfinished[path.stem] = str(error)
    if not found:
        reason = next(iter(unfinished.values()), "run `dvc repro resolve`")
        raise FileNotFoundError(f"{root / artifacts.RESOLVED / 'tables'} has no finished table: {reason}")
    return found, unfinished


def witnesses(comparisons: Sequence[Comparison], other: Path) -> dict[str, Beside]:
    """Return the tables that the project at ``other`` has finished too, each with its counterpart."""
    there = {one.name: one for one in read(other)[0]}
    return {one.name: beside(one, there[one.name]) for one in comparisons if one.name in there}


def write(
    folder: Path,
    root: Path,
    comparisons: Sequence[Comparison],
    besides: Mapping[str, Beside],
    unfinished: Mapping[str, str],
) -> None:
    """Write everything into a folder."""
    pages = []
    for comparison in comparisons:
        made = root / artifacts.report_folder(comparison.name) / "table.html"
        if made.is_file():
            _write(folder / f"{comparison.name}.html", page.linked(made.read_text(encoding="utf-8")))
            pages.append(comparison.name)
    shutil.copyfile(page.STYLE, folder / page.STYLE.name)
    _write(folder / "index.html", page.linked(index.html(comparisons, besides, pages, unfinished)))
    _write(folder / "index.md", all_tables.markdown(comparisons, besides))
    _write(folder / "index.csv", all_tables.as_csv(comparisons))
    _write(folder / "index.tex", all_tables.latex(comparisons))
    _write(folder / "index.json", all_tables.as_json(all_tables.as_tree(comparisons, besides)) + "\n")


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--root", default=".", help="project that contains the tables; default: this one")
    options.add_argument("--beside", help="second project with some of the same tables, at another scale")
    options.add_argument("--out", help=f"output folder; default: {FOLDER} of the project")
    return options


if __name__ == "__main__":
    sys.exit(program.run(main, parser()))
