"""Runs every piece of work with every fault at every operation, and writes the table in docs/operations.md.

    python -m tests.operations.table --write docs/operations.md
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.operations import harness
from tests.operations.case import FAULTS, OPERATIONS
from tests.operations.cases import ALL

BEGIN, END = "<!-- table: make operations -->\n", "<!-- end of table -->\n"


def main() -> int:
    """Run, print what is wrong, write the line of each piece of work with which nothing is."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--write", type=Path, help="page with the table")
    options.add_argument("--only", nargs="+", choices=list(ALL), default=list(ALL), metavar="NAME")
    options.add_argument("--faults", nargs="+", choices=list(FAULTS), default=list(FAULTS))
    arguments = options.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        library = harness.build(Path(folder))
        if library is None:
            print("error: no C compiler, which makes operations fail: install gcc or clang", file=sys.stderr)
            return 2
        for name in arguments.only:
            found |= harness.report(library, Path(folder), [name], arguments.faults)
            print(f"{name}: {found[name]['tries']} tries, {len(found[name]['problems'])} problems", flush=True)
            print("".join(f"    {problem}\n" for problem in found[name]["problems"]), end="", flush=True)
            if arguments.write and not found[name]["problems"]:
                write(arguments.write, {name: found[name]})
    wrong = [name for name in found if found[name]["problems"] or not set(ALL[name].covers) <= set(found[name]["ran"])]
    if wrong:
        print(f"error: {', '.join(wrong)}", file=sys.stderr)
        return 1
    return 0


def write(page: Path, found: dict[str, Any]) -> None:
    """Put the rows of what ran into the table of a page; others keep theirs."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    table, _, after = rest.partition(END)
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in table.splitlines() if line.startswith("| ")}
    for name, made in found.items():
        said = "all" if len(made["faults"]) == len(FAULTS) else ", ".join(made["faults"])
        counts = " | ".join(str(made["operations"][operation] or "") for operation in OPERATIONS)
        rows[name] = f"| {name} | {ALL[name].what} | {counts} | {made['tries']} | {said} |"
    head = f"| writer | what it writes | {' | '.join(OPERATIONS)} | tries | faults |\n|---|---|{'---:|' * (len(OPERATIONS) + 1)}---|\n"
    lines = "".join(f"{rows[name]}\n" for name in ALL if name in rows)
    page.write_text(f"{before}{BEGIN}{head}{lines}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
