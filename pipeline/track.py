"""Stage `track`, the last one: records the results of all other stages in MLflow; its failure loses nothing.

Run as `python -m pipeline.track`; with `--workspace KIND/NAME` it records the tables of a side workspace.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.base import workspace
from pipeline.tracking import sync
from stages.runtime import program


def main(arguments: Sequence[str] = ()) -> int:
    """Record the results, print a summary, and return the exit code."""
    asked = _parser().parse_args(arguments)
    program.die_with_parent()
    again = "`dvc repro track`" if asked.workspace is None else "the same command again"
    try:
        where = None if asked.workspace is None else workspace.parse(Path(), asked.workspace)
        done = sync.track(say=_say, workspace=where)
    # MLflow raises what its server, its database and its client raise: all of it means the same here
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        sys.stderr.write(f"error: results are complete, but MLflow refused them: {lines[0]}; ")
        sys.stderr.write(f"fix this and run {again}\n")
        return 1
    for name, reason in done.waiting.items():
        _say(f"not recorded yet: {name}: {reason}")
    _say(f"MLflow: {len(done.created)} recorded, {len(done.existing)} already there")
    return 0


def _parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--workspace", metavar="KIND/NAME", help="as ablations/demo")
    return options


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
