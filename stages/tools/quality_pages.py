"""`facet quality-pages`: draws a page for each quality method of a run, and one that sets them side by side."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stages import artifacts, program, progress
from stages.quality_pages import index_page, method_page, reading

EXAMPLES = """\
examples:
  facet quality-pages                   all runs whose suite fiqa was measured
  facet quality-pages adaface arcface"""


def main(arguments: argparse.Namespace) -> None:
    """Draw the pages of each run; say where they are."""
    runs = arguments.runs or measured_runs()
    if not runs:
        raise FileNotFoundError(f"no run under {artifacts.RESULTS} has a suite fiqa measured: `facet run` first")
    for name in runs:
        progress.say(f"{write(reading.read(name))}")


def measured_runs() -> list[str]:
    """Return the runs that have what pages are drawn from."""
    found = artifacts.RESULTS.glob("*/fiqa/scores.parquet")
    return sorted(path.parent.parent.name for path in found)


def write(run: reading.Run) -> Path:
    """Write results/RUN/quality_pages; return its first page."""
    folder = artifacts.details_folder(run.name, "quality_pages")
    with artifacts.write_folder(folder) as aside:
        for method in run.methods:
            (aside / f"{method}.html").write_text(method_page.html(run, method), encoding="utf-8")
        (aside / "index.html").write_text(index_page.html(run), encoding="utf-8")
    return folder / "index.html"


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    options = argparse.ArgumentParser(
        prog="facet quality-pages",
        description="Draw a page for each quality method of a run into results/RUN/quality_pages, and one beside that "
        "sets them side by side. Nothing is measured anew.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("runs", nargs="*", metavar="RUN", help="runs of params.yaml (all that were measured)")
    return options


if __name__ == "__main__":
    sys.exit(program.run(main, parser()))
