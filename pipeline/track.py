"""Stage `track`, the last one: records in MLflow what all others made; its failure loses nothing.

Run as `python -m pipeline.track`.
"""

from __future__ import annotations

import sys

from pipeline import tracking


def main() -> int:
    """Record, say what was done, and return the exit code."""
    try:
        done = tracking.track(say=_say)
    # MLflow raises what its server, its database and its client raise: all of it means the same here
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        sys.stderr.write(f"error: results are whole, but MLflow did not take them: {lines[0]}; ")
        sys.stderr.write("put that right and run `dvc repro track`\n")
        return 1
    for where, reason in done.waiting.items():
        _say(f"not recorded yet: {where}: {reason}")
    _say(f"MLflow: {len(done.created)} recorded, {len(done.existing)} were there")
    return 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
