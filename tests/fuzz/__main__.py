"""Reads mutated files with every reader, and prints what was found.

    python -m tests.fuzz --seed 1 --inputs 1000000 --minutes 60
    python -m tests.fuzz --only .bin "scores, s.pkl"
    python -m tests.fuzz --again tests/fuzz/found
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

from tests.fuzz import lists, models
from tests.fuzz.harness import fuzz, read_again

BEGIN, END = "<!-- table: make fuzz -->\n", "<!-- end of table -->\n"
HEAD = "| reader | inputs | read | kept | findings |\n|---|---:|---:|---:|---:|\n"
TARGETS = {target.name: target for target in (*lists.TARGETS, *models.TARGETS)}


def folder_of(name: str) -> str:
    """Return the folder of a reader's kept files."""
    return slug(name)


def slug(text: str) -> str:
    """Return a text as the name of a file."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def again(folder: Path) -> int:
    """Read kept files, and print what each broke, or why it was refused."""
    wrong = 0
    for name, target in TARGETS.items():
        kept = sorted((folder / folder_of(name)).glob("*"))
        for path, verdict in zip(kept, read_again(target, [path.read_bytes() for path in kept]), strict=True):
            wrong += bool(verdict.problems)
            said = "; ".join(verdict.problems) or (f"refused: {verdict.refusal[:150]}" if verdict.refusal else "read")
            print(f"{'FAILED' if verdict.problems else 'ok'}  {path.relative_to(folder)}: {said}", flush=True)
    return 1 if wrong else 0


def write(page: Path, lines: dict[str, str]) -> None:
    """Put the lines of what ran into the table of a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    table, _, after = rest.partition(END)
    known = {line.split(" | ")[0].removeprefix("| "): line for line in table.splitlines() if line.startswith("| ")}
    rows = "".join(f"{line}\n" for name in TARGETS if (line := lines.get(name, known.get(name))))
    page.write_text(f"{before}{BEGIN}{HEAD}{rows}{END}{after}", encoding="utf-8")


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)), help="another each time; it is printed")
    options.add_argument("--inputs", type=int, default=1_000_000, help="of all readers together")
    options.add_argument("--minutes", type=float, default=60.0, help="of all readers together")
    options.add_argument("--only", nargs="+", choices=list(TARGETS), default=list(TARGETS), metavar="READER")
    options.add_argument("--keep", type=Path, help="folder for the smallest file of each finding")
    options.add_argument("--write", type=Path, help="page with the table; readers that are not run keep their lines")
    options.add_argument("--again", type=Path, help="read the files of such a folder, and nothing else")
    arguments = options.parse_args()
    os.environ |= {"FACET_FOLLOW": "0", "OMP_NUM_THREADS": "1"}
    if arguments.again:
        return again(arguments.again)
    print(f"seed {arguments.seed}", flush=True)
    print(HEAD, end="", flush=True)
    total, wrong = 0, 0
    lines: dict[str, str] = {}
    share = len(arguments.only)
    for name in arguments.only:
        found = fuzz(TARGETS[name], arguments.seed, inputs=-(-arguments.inputs // share), seconds=60 * arguments.minutes / share)
        total, wrong = total + found.inputs, wrong + len(found.findings)
        lines[name] = f"| {name} | {found.inputs:,} | {found.accepted:,} | {found.corpus:,} | {len(found.findings)} |"
        print(lines[name], f"{found.seconds:.0f} s", flush=True)
        for what, data in sorted(found.findings.items()):
            print(f"    {what} ({len(data)} bytes)", flush=True)
            if arguments.keep:
                place = arguments.keep / folder_of(name) / slug(what)[:80]
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(data)
    print(f"{total:,} inputs, {wrong} findings", flush=True)
    if arguments.write:
        write(arguments.write, lines)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
