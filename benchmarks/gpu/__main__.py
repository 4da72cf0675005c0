"""Measures facet on the GPU of this machine, most valuable first, in a few minutes, and writes one table.

    python -m benchmarks.gpu                # under 8 minutes on one card
    python -m benchmarks.gpu --dry          # tiny sizes, also on a CPU: does everything run?

Each part runs in a process of its own, so that none can spoil those after it: an error, a full memory, a missing
compiler or a part that hangs becomes its row of the table. Rows are on the disk as they come, in results.jsonl and
table.md.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from benchmarks.gpu import parts
from benchmarks.gpu.results import MACHINE, Results
from stages.runtime import artifacts, program

PARTS = {
    MACHINE: 60, "heads": 60, "resume": 150, "steps": 150, "loader": 60, "widths": 60, "precision": 60, "embedding": 60,
    "compiled": 240,
}  # fmt: skip
"""Seconds that each part may take at most, in the order of their value."""


def main(arguments: argparse.Namespace) -> None:
    """Measure part by part, and print where the table is."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    results = Results(arguments.out or artifacts.STATE / "benchmarks" / f"gpu-{stamp}", dry=arguments.dry)
    until_s = time.monotonic() + 60 * arguments.minutes
    for part in PARTS:
        if part in arguments.parts or part == MACHINE:
            parts.measure(part, results, PARTS[part], until_s, dry=arguments.dry)
    print(f"\n{results.table.read_text(encoding='utf-8')}\nwritten to {results.table}")
    if results.wrong:
        print(f"{len(results.wrong)} results are WRONG", file=sys.stderr)
        raise SystemExit(1)


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    options = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    options.add_argument("--dry", action="store_true", help="tiny sizes, whose times mean nothing")
    options.add_argument("--minutes", type=float, default=7.5, help="after which nothing more is begun; default 7.5")
    options.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS), help="default: all")
    options.add_argument("--out", type=Path, help="folder of results.jsonl and table.md; default: under .facet")
    return options


if __name__ == "__main__":
    sys.exit(program.run(main, parser()))
