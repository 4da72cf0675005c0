"""`facet quality-pages`: draws a page for each quality method of a run, and an overview of all of them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stages.quality_pages import index_page, method_page, reading
from stages.runtime import artifacts, program, progress

EXAMPLES = """\
examples:
  facet quality-pages                   all runs with results of suite fiqa
  facet quality-pages adaface qgface"""


def main(arguments: argparse.Namespace) -> None:
    """Draw the pages of each run; print their paths."""
    runs = arguments.runs or measured_runs()
    if not runs:
        raise FileNotFoundError(f"no run under {artifacts.RESULTS} has results of suite fiqa: run `facet run` first")
    for name in runs:
        progress.say(f"{write(reading.read(name))}")


def measured_runs() -> list[str]:
    """Return the runs that have the data for pages."""
    found = artifacts.RESULTS.glob("*/fiqa/scores.parquet")
    measured = [path for path in found if artifacts.read_json(path.with_name("details.json"))["sets"]]
    return sorted(path.parent.parent.name for path in measured)


def write(run: reading.Run) -> Path:
    """Write results/RUN/quality_pages; return its first page."""
    folder = artifacts.details_folder(run.name, "quality_pages")
    with artifacts.write_folder(folder) as aside:
        fill(aside, run)
    return folder / "index.html"


def fill(folder: Path, run: reading.Run) -> None:
    """Write the pages into a folder."""
    for method in run.methods:
        (folder / f"{method}.html").write_text(method_page.html(run, method), encoding="utf-8")
    (folder / "index.html").write_text(index_page.html(run), encoding="utf-8")


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    options = argparse.ArgumentParser(
        prog="facet quality-pages",
        description="Draw a page for each quality method of a run to results/RUN/quality_pages, and an overview that "
        "compares them. Nothing is measured again.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("runs", nargs="*", metavar="RUN", help="runs of params.yaml (default: all with results)")
    return options


if __name__ == "__main__":
    sys.exit(program.run(main, parser()))
