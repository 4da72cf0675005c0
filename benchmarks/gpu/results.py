"""Rows of the table: written as they come, so that a run that is killed leaves what it has measured."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stages.runtime import files

COLUMNS = ("part", "what", "result", "expected", "verdict")
MACHINE = "machine"
"""The part whose numbers are the facts of the machine."""


@dataclass(frozen=True)
class Row:
    """One measurement, or why there is none."""

    result: str = ""
    expected: str = ""
    verdict: str = ""
    part: str = ""
    what: str = ""
    seconds: float = 0.0
    """That the measurement took."""
    numbers: dict[str, Any] = field(default_factory=dict)
    """What ``result`` is written from."""


def at_most(what: str, value: float, bound: float) -> str:
    """Return a verdict on a number that should be small.

    >>> at_most("step / backbone", 1.06, 1.1), at_most("step / backbone", 1.5, 1.1)
    ('step / backbone 1.06: ok', 'step / backbone 1.50, wanted 1.1: SLOW')
    """
    return f"{what} {value:.2f}: ok" if value <= bound else f"{what} {value:.2f}, wanted {bound:g}: SLOW"


class Results:
    """results.jsonl, a line per row, and table.md, both in one folder and complete after every row."""

    def __init__(self, folder: Path, *, dry: bool) -> None:
        self.folder, self.dry = folder, dry
        self.rows: list[Row] = []
        folder.mkdir(parents=True, exist_ok=True)
        self.lines, self.table = folder / "results.jsonl", folder / "table.md"
        self.lines.write_text("", encoding="utf-8")

    def add(self, row: Row) -> None:
        """Write one row to the disk and print it."""
        self.rows.append(row)
        with self.lines.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(asdict(row)) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        with files.replacing(self.table) as aside:
            aside.write_text(render(self.rows, dry=self.dry), encoding="utf-8")
        told = (row.result, row.expected and f"expected {row.expected}", row.verdict)
        print(f"{row.part}: {row.what}: {'; '.join(text for text in told if text)}", flush=True)

    def numbers(self, part: str) -> dict[str, Any]:
        """Return the numbers of all rows of a part, the later ones over the earlier."""
        return {name: value for row in self.rows if row.part == part for name, value in row.numbers.items()}

    @property
    def wrong(self) -> list[Row]:
        """The rows whose results are not right."""
        return [row for row in self.rows if "WRONG" in row.verdict]


def render(rows: Sequence[Row], *, dry: bool) -> str:
    """Return the table as Markdown, under a line about the machine."""
    facts = [row for row in rows if row.part == MACHINE]
    others = [row for row in rows if row.part != MACHINE]
    lines = [f"{row.what}: {row.result}{f' ({row.verdict})' if row.verdict else ''}  " for row in facts]
    if dry:
        lines.append("Dry run with tiny sizes: the times mean nothing.")
    lines += ["", "| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(_cell(getattr(row, name)) for name in COLUMNS) + " |" for row in others]
    return "\n".join([*lines, ""])


def _cell(text: str) -> str:
    return " ".join(text.replace("|", r"\|").split())
