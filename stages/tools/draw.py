"""`facet draw`: draws figures of heads: gradient scaling term, margins, penalty; of published settings or of runs."""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

from stages.run_page import head_figures, head_settings
from stages.runtime import artifacts, program, progress

EXAMPLES = """\
examples:
  facet draw heads                            every published head, to .facet/pictures
  facet draw heads --head cosface --head adaface   published settings of these alone
  facet draw heads --run adaface --run mine   the heads of two runs, with the statistics their training ended with
  facet draw heads --format svg --out figures"""


def main(arguments: argparse.Namespace) -> None:
    """Draw, write, print path and caption of each figure."""
    runs: list[str] = arguments.run or []
    heads: list[str] = arguments.head or []
    settings = head_settings.published(heads) if heads or not runs else []
    settings += [head_settings.of_run(run) for run in runs]
    figures = [head_figures.gradients(settings), head_figures.margins(settings), head_figures.over_norm(settings)]
    for drawn in figures:
        if drawn is None:
            continue
        path: Path = arguments.out / f"{drawn.name}.{arguments.format}"
        stream = io.BytesIO()
        drawn.write(stream, arguments.format)
        path.parent.mkdir(parents=True, exist_ok=True)
        with artifacts.write_file(path) as aside:
            aside.write_bytes(stream.getvalue())
        progress.say(f"{path}: {drawn.caption}")


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    options = argparse.ArgumentParser(
        prog="facet draw",
        description="Draw figures of margin heads: the gradient scaling term over angle and feature norm (AdaFace's "
        "figure 3), margins, penalties. The heads themselves compute them; nothing is trained.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("what", choices=("heads",), help="what to draw")
    options.add_argument("--head", action="append", metavar="HEAD", help="a published head; repeatable (all of them)")
    options.add_argument("--run", action="append", metavar="RUN", help="head of a run of params.yaml; repeatable")
    options.add_argument("--out", type=Path, default=artifacts.STATE / "pictures", help="folder (.facet/pictures)")
    options.add_argument("--format", choices=("png", "svg"), default="png", help="of the files (png)")
    return options


if __name__ == "__main__":
    sys.exit(program.run(main, parser()))
