"""Stage `row`: gathers what one run measured for one row of a table, and what it was made of.

    python -m stages.row heads-adaface
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from stages import artifacts, program

SUITES = ("train", "quality", "hq", "ijb", "lq", "fiqa")


def main(arguments: argparse.Namespace) -> None:
    """Write results/tables/TABLE/rows/TABLE-ROW.json."""
    table = arguments.row.partition("-")[0]
    measured: dict[str, Any] = {}
    for suite in SUITES:
        path = artifacts.metrics_file(arguments.run, suite)
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: the stages of run {arguments.run} write it; run `dvc repro`")
        measured[suite] = artifacts.read_json(path)
    artifacts.write_json(artifacts.row_file(table, arguments.row), {"run": arguments.run, "measured": measured})


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("row", help="TABLE-ROW, as under `rows` in params.yaml")
    options.add_argument("run", help="the run that stands in it")
    return options


if __name__ == "__main__":
    sys.exit(program.run(main, parser()))
