"""Stage `summary`: one run's numbers in the columns that tables show, and its curves, for DVC's own views.

    python -m stages.summary adaface

Writes results/RUN/summary.json (`dvc metrics show`: one line per run) and results/RUN/curves/*.csv (`dvc plots show`).
All other numbers are in results/RUN/SUITE.json.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.config.summary import Summary
from stages.core.errors import InputError
from stages.protocols import averages
from stages.runtime import artifacts, program

SUITES = ("train", "quality", "hq", "ijb", "lq", "fiqa")


@dataclass(frozen=True)
class Curve:
    """A curve that DVC draws: where it is, and which of its columns are kept."""

    suite: str
    stem: str
    columns: tuple[str, ...]


CURVES = {
    "roc": Curve("hq", "roc", ("set", "far", "tar")),
    "det": Curve("hq", "roc", ("set", "far", "fnmr")),
    "cmc": Curve("lq", "cmc", ("set", "rank", "rate")),
    "edc": Curve("fiqa", "edc", ()),
}


def main(arguments: argparse.Namespace) -> None:
    """Read the columns that are shown, write them and the curves."""
    run = arguments.run
    section = artifacts.read_section(artifacts.RESOLVED / "runs" / f"{run}.yaml", "summary", Summary)
    measured = {suite: artifacts.read_json(artifacts.metrics_file(run, suite)) for suite in SUITES}
    measured["averages"] = averages.averages(measured)[0]
    with artifacts.write_folder(artifacts.details_folder(run, "curves")) as folder:
        for name, curve in CURVES.items():
            path = artifacts.details_folder(run, curve.suite) / f"{curve.stem}.csv"
            artifacts.write_csv(folder / f"{name}.csv", *read_curve(path, curve.columns))
    artifacts.write_json(artifacts.metrics_file(run, "summary"), shown(measured, section.columns))


def shown(measured: Mapping[str, Mapping[str, Any]], columns: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Return the columns' values by suite; those that were not measured are left out.

    >>> shown({"hq": {"lfw": 0.9917, "lfw_std": 0.01}, "lq": {}}, ("hq.lfw", "lq.scface_d1"))
    {'hq': {'lfw': 0.9917}}
    """
    tree: dict[str, dict[str, Any]] = {}
    for column in columns:
        suite, _, key = column.partition(".")
        value = measured.get(suite, {}).get(key)
        if value is not None:
            tree.setdefault(suite, {})[key] = value
    return tree


def read_curve(path: Path, columns: tuple[str, ...]) -> tuple[list[str], list[list[str]]]:
    """Return the header and the lines of a curve's file, with these columns alone; all if none is named.

    Raises:
        ValueError: it lacks one of them.
    """
    with path.open(newline="", encoding="utf-8") as stream:
        header, *lines = list(csv.reader(stream))
    kept = list(columns) or header
    if lacking := [name for name in kept if name not in header]:
        raise InputError(f"{path} should have the columns {', '.join(kept)}; it lacks {', '.join(lacking)}")
    places = [header.index(name) for name in kept]
    return kept, [[line[place] for place in places] for line in lines]


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("run", help="run of params.yaml, for example adaface")
    return options


if __name__ == "__main__":
    sys.exit(program.run(main, parser()))
