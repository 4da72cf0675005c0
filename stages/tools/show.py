"""`facet show`: writes the page of a single run: configuration, curves, results, worst pairs, environment.

Part of the command: `pipeline/cli/show.py` adds what DVC, git and MLflow know of the run.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stages.run_page import html, reading, worst_pairs
from stages.runtime import artifacts, program, yaml_text


def main(arguments: argparse.Namespace) -> None:
    """Read the run, choose its worst pairs, write results/RUN/page/index.html."""
    run = reading.read(arguments.run)
    worst = {} if arguments.no_pairs else worst_pairs.of_run(run, arguments.sets)
    has_pages = (artifacts.details_folder(run.name, "quality_pages") / "index.html").is_file()
    shown = html.html(run, worst, synthetic=is_synthetic(run.measured_on("hq")), has_quality_pages=has_pages)
    path = artifacts.details_folder(run.name, "page") / "index.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    with artifacts.write_file(path) as aside:
        aside.write_text(shown, encoding="utf-8")


def is_synthetic(dataset: str) -> bool:
    """Return whether params.yaml has the data set rendered."""
    tree = yaml_text.read_mapping(Path("params.yaml"))
    return dataset in (tree.get("synthetic") or {})


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    options = argparse.ArgumentParser(prog="python -m stages.tools.show", description=__doc__.splitlines()[0])
    options.add_argument("run", help="a run of params.yaml that was trained here")
    options.add_argument("--sets", type=_names, help="verification sets whose worst pairs are shown; default: all")
    options.add_argument("--no-pairs", action="store_true", help="leave the pairs out: no image is read")
    return options


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


if __name__ == "__main__":
    sys.exit(program.run(main, parser()))
