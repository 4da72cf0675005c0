"""Findings of a table beside the results that they were written about: known by a digest of the measured cells."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.config.table import Finding
from stages.reporting.comparison import Cell, Comparison, Line

DIGITS = 16


@dataclass(frozen=True)
class Found:
    """A finding and whether it is about the results that are shown."""

    finding: Finding
    here: bool

    @property
    def text(self) -> str:
        """What was found."""
        return self.finding.text.strip()

    @property
    def elsewhere(self) -> str:
        """Where it was found, if not here."""
        return f"Found on {self.finding.date}, in other results of this table"


def found(comparison: Comparison) -> Found | None:
    """Return the finding about these results, else that of the profile about other results, else None.

    By the digest first: scales that build on one another share a profile, and each may have its own finding.
    """
    here, there = digest(comparison.lines), comparison.table.findings
    about = next((one for one in there.values() if one.digest == here), there.get(comparison.scale.profile))
    return None if about is None else Found(about, about.digest == here)


def digest(lines: Sequence[Line]) -> str:
    """Return the digest of a table's measured cells: each seed's value, rounded as shown."""
    return _digest({line.key: [_values(cell) for cell in line.cells] for line in lines})


def digest_of_tree(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the same of the rows of table.json, or of index.json."""
    return _digest(
        {
            row["key"]: [[cell.get("measured"), *cell.get("by_seed", {}).values()] for cell in row["cells"].values()]
            for row in rows
        }
    )


def _values(cell: Cell) -> list[float | None]:
    return [cell.measured, *(cell.by_seed.values() if len(cell.by_seed) > 1 else ())]


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:DIGITS]
