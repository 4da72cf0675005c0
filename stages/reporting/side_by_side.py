"""Compares a table's row orders: published, measured on synthetic data, and measured on real faces.

Values are not compared, as the two are of other scale; only which row stands above which.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stages.core.errors import InputError
from stages.core.metrics import agreement_spread
from stages.core.metrics.agreement import Pairs, count_pairs, kendall_tau
from stages.core.metrics.agreement_spread import Column, Interval
from stages.reporting import wording
from stages.reporting.comparison import Cell, Comparison

PUBLISHED = "published"


@dataclass(frozen=True)
class Witness:
    """One side of a comparison: the published numbers, or those measured at one scale."""

    name: str
    cells: tuple[tuple[Cell, ...], ...]  # by row, then column

    def value(self, row: int, column: int) -> float | None:
        """Return this side's value of a cell, as shown."""
        cell = self.cells[row][column]
        return cell.published if self.name == PUBLISHED else cell.measured

    def apart(self, row: int, column: int) -> bool:
        """Return whether its value was not measured on the published set."""
        return self.name != PUBLISHED and bool(self.cells[row][column].apart)

    def values(self, row: int, column: int) -> Sequence[float] | None:
        """Return its value for each seed, not rounded."""
        cell = self.cells[row][column]
        if self.name == PUBLISHED:
            return None if cell.published is None else (cell.published,)
        return None if cell.measured is None else cell.raw


@dataclass(frozen=True)
class Pairing:
    """Agreement of two sides on the order of rows."""

    left: str
    right: str
    columns: tuple[float | None, ...]  # tau of each
    tau: float | None
    interval: Interval | None
    pairs: Pairs
    resolved: Pairs  # where both sides' seeds tell the rows apart
    reversed: tuple[str, ...]  # of these, the pairs that stand the other way round


@dataclass(frozen=True)
class Beside:
    """A table and its sides."""

    comparison: Comparison
    other: Comparison
    witnesses: tuple[Witness, ...]
    pairings: tuple[Pairing, ...]

    def ranks(self, column: int) -> list[tuple[float | None, ...]]:
        """Return each row's rank on each side, 1 for the best, over the rows that all sides have."""
        rows = range(len(self.comparison.lines))
        values = [[witness.value(row, column) for row in rows] for witness in self.witnesses]
        there = [side for side in values if len([value for value in side if value is not None]) > 1]
        common = [row for row in rows if all(side[row] is not None for side in there)]
        sign = -1 if self.comparison.table.columns[column].higher_is_better else 1
        sides = [_ranks([sign * v if v is not None and r in common else None for r, v in enumerate(s)]) for s in values]
        return list(zip(*sides, strict=True))


def _ranks(values: Sequence[float | None]) -> list[float | None]:
    known = [value for value in values if value is not None]
    return [None if v is None else sum(k < v for k in known) + (1 + known.count(v)) / 2 for v in values]


def beside(comparison: Comparison, other: Comparison) -> Beside:
    """Combine a table with the same one measured at another scale.

    Raises:
        ValueError: the two differ in rows, or in columns.
    """
    for what, left, right in (
        ("rows", [line.key for line in comparison.lines], [line.key for line in other.lines]),
        ("columns", [c.name for c in comparison.table.columns], [c.name for c in other.table.columns]),
    ):
        if left != right:
            raise InputError(
                f"table {comparison.name} has other {what} at scale {other.scale.profile}: {right}, not {left}"
            )
    witnesses = (
        Witness(PUBLISHED, tuple(line.cells for line in comparison.lines)),
        Witness(comparison.scale.profile, tuple(line.cells for line in comparison.lines)),
        Witness(other.scale.profile, tuple(line.cells for line in other.lines)),
    )
    pairings = tuple(_pairing(comparison, left, right) for left, right in itertools.combinations(witnesses, 2))
    return Beside(comparison, other, witnesses, pairings)


def _pairing(comparison: Comparison, left: Witness, right: Witness) -> Pairing:
    taus, every, told, turned, sides = [], Pairs(), Pairs(), list[str](), []
    for index, column in enumerate(comparison.table.columns):
        rows = [
            row
            for row in range(len(comparison.lines))
            if left.value(row, index) is not None and right.value(row, index) is not None
            and not (PUBLISHED in (left.name, right.name) and (left.apart(row, index) or right.apart(row, index)))
        ]
        pairs = count_pairs([left.value(r, index) or 0.0 for r in rows], [right.value(r, index) or 0.0 for r in rows])
        taus.append(kendall_tau(pairs))
        every += pairs
        lefts, rights = ([side.values(r, index) or () for r in rows] for side in (left, right))
        told += agreement_spread.resolved_pairs(lefts, rights)
        turned += _reversed(comparison, index, rows, lefts, rights)
        every_row = range(len(comparison.lines))
        both = [[side.values(r, index) if r in rows else None for r in every_row] for side in (left, right)]
        sides.append(Column(both[0], both[1], column.decimals))
    interval = agreement_spread.intervals(sides)[1]
    return Pairing(left.name, right.name, tuple(taus), kendall_tau(every), interval, every, told, tuple(turned))


def _reversed(
    comparison: Comparison,
    index: int,
    rows: Sequence[int],
    lefts: Sequence[Sequence[float]],
    rights: Sequence[Sequence[float]],
) -> Iterator[str]:
    """Yield the pairs that every seed of both sides separates, but in opposite order."""
    column = comparison.table.columns[index]
    for i, j in itertools.combinations(range(len(rows)), 2):
        if agreement_spread.resolved_pairs([lefts[i], lefts[j]], [rights[i], rights[j]]).discordant:
            above = min(lefts[i]) > max(lefts[j])
            first, second = (i, j) if above == column.higher_is_better else (j, i)
            labels = [comparison.lines[rows[place]].label for place in (first, second)]
            yield f"{column.name}: {labels[0]} above {labels[1]}"


def sentence(pairing: Pairing) -> str:
    """Return the agreement of two sides, in words."""
    if pairing.tau is None:
        return f"{pairing.left} and {pairing.right}: nothing to compare."
    said = f"{pairing.left} and {pairing.right}: τ {wording.number(pairing.tau, 2, signed=True)}"
    if pairing.interval is not None:
        low, high = (wording.number(end, 2, signed=True) for end in (pairing.interval.low, pairing.interval.high))
        said += f" [{low}, {high}]"
    told = pairing.resolved.concordant + pairing.resolved.discordant
    said += f"; of {told} pairs that the seeds separate on both sides, {pairing.resolved.concordant} agree"
    if pairing.reversed:
        said += f". Reversed on {pairing.right}: {'; '.join(pairing.reversed)}"
    return said + "."
