"""Stage `track`, the last one: records the results of all other stages in MLflow; its failure loses nothing.

Run as `python -m pipeline.track`; with `--workspace KIND/NAME` it records the tables of a side workspace.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.base import environment, workspace
from pipeline.tracking import sync
from stages.core.errors import InputError, OperationError
from stages.runtime import program

STORES = ("mlflow", "sqlalchemy", "alembic", "sqlite3", "requests", "urllib3", "botocore")
"""Packages whose errors mean that the store, or what carries results to it, cannot be used."""


def main(arguments: Sequence[str] = ()) -> int:
    """Record the results, print a summary, and return the exit code."""
    asked = _parser().parse_args(arguments)
    program.die_with_parent()
    again = "`dvc repro track`" if asked.workspace is None else "the same command again"
    try:
        where = None if asked.workspace is None else workspace.parse(Path(), asked.workspace)
        done = sync.track(say=_say, workspace=where)
    except Exception as error:
        if not _is_refusal(error):
            sys.stderr.write(f"error: results are complete, but a bug kept them out of MLflow; {again} tries again\n")
            raise
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        reason = environment.without_passwords(lines[0], os.environ.get("MLFLOW_TRACKING_URI"))
        sys.stderr.write(f"error: results are complete, but MLflow refused them: {reason}; ")
        sys.stderr.write(f"fix this and run {again}\n")
        return 1
    for name, reason in done.waiting.items():
        _say(f"not recorded yet: {name}: {reason}")
    _say(f"MLflow: {len(done.created)} recorded, {len(done.existing)} already there")
    return 0


def _is_refusal(error: BaseException | None) -> bool:
    """Return whether MLflow, its server, its database or a disk said no, rather than that our code is wrong.

    Judged by the package that the error, or what it was raised from, comes from: importing them all takes seconds.
    """
    while error is not None:
        if isinstance(error, (InputError, OperationError, OSError)) or type(error).__module__.split(".")[0] in STORES:
            return True
        error = error.__cause__
    return False


def _parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--workspace", metavar="KIND/NAME", help="as ablations/demo")
    return options


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
