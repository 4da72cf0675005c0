"""Measured beside published: the cells of a table, and how far both order its rows alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from stages.core.agreement import Pairs, chance, count_pairs, kendall_tau
from stages.report import Column, Gathered, Row, Scale, Table

NOT_MEASURABLE = "not measurable"  # asked for, but the test set cannot answer
NOT_MEASURED = "not measured"  # not asked for in this run, though in another of the table


@dataclass(frozen=True)
class Cell:
    """One value of one row, in its column's unit and rounded as it is shown; None is an empty cell."""

    measured: float | None = None
    published: float | None = None
    missing: str = ""  # NOT_MEASURABLE or NOT_MEASURED; empty where there is a value, or no run
    reason: str = ""
    best: bool = False

    @property
    def difference(self) -> float | None:
        """Measured minus published."""
        if self.measured is None or self.published is None:
            return None
        return self.measured - self.published


@dataclass(frozen=True)
class Line:
    """One row of the table."""

    key: str
    label: str
    run: str | None
    cells: tuple[Cell, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)  # those of the ablation that the run has
    gathered: Gathered | None = None


@dataclass(frozen=True)
class Agreement:
    """How far measured and published order the rows alike, in one column or over several."""

    pairs: Pairs
    rows: int  # that have both values
    chance: float | None = None  # share of all orders that agree as well; of one column only

    @property
    def tau(self) -> float | None:
        """Kendall's tau-b; None where nothing can be compared."""
        return kendall_tau(self.pairs)


@dataclass(frozen=True)
class Comparison:
    """A table with everything measured for it."""

    name: str
    table: Table
    scale: Scale
    lines: tuple[Line, ...]
    columns: tuple[Agreement, ...]  # in the table's order
    overall: Agreement

    @property
    def runs(self) -> list[Line]:
        """The rows that a run measures."""
        return [line for line in self.lines if line.gathered is not None]

    @property
    def seeds(self) -> list[int]:
        """The seeds of all runs, each once."""
        found = {line.gathered.parameters.get("seed") for line in self.runs if line.gathered is not None}
        return sorted(seed for seed in found if seed is not None)


def compare(name: str, table: Table, scale: Scale, gathered: Mapping[str, Gathered]) -> Comparison:
    """Set what was gathered, by the row's key, beside what was published.

    Raises:
        LookupError: a metric or an ablation parameter that no run has; the message lists those there are.
    """
    _check_ablation(table, gathered)
    _check_metrics(table, gathered)
    lines = [_line(key, row, table, gathered.get(key)) for key, row in table.rows.items()]
    for index, column in enumerate(table.columns):
        lines = _mark_best(lines, index, column)
    columns = tuple(_agreement(line.cells[index] for line in lines) for index in range(len(table.columns)))
    pooled = sum((column.pairs for column in columns), Pairs())
    overall = Agreement(pooled, max(column.rows for column in columns))
    return Comparison(name, table, scale, tuple(lines), columns, overall)


def _line(key: str, row: Row, table: Table, gathered: Gathered | None) -> Line:
    cells = tuple(_cell(column, row.published.get(column.name), gathered) for column in table.columns)
    if gathered is None:
        return Line(key, row.label, row.run, cells)
    parameters = {name: gathered.parameters[name] for name in table.ablation if name in gathered.parameters}
    return Line(key, row.label, row.run, cells, parameters, gathered)


def _cell(column: Column, published: float | None, gathered: Gathered | None) -> Cell:
    if gathered is None:
        return Cell(published=published)
    suite, _, key = column.metric.partition(".")
    value = gathered.measured[suite].get(key)
    if value is None:
        reason = _reason(key, gathered.unmeasured.get(suite, {}))
        missing = NOT_MEASURED if reason is None else NOT_MEASURABLE
        return Cell(published=published, missing=missing, reason=reason or "")
    if isinstance(value, str):
        raise ValueError(f"column {column.name}: {column.metric} is {value!r}, not a number")
    shown = round(value * (100 if column.unit == "percent" else 1), column.decimals)
    return Cell(shown + 0.0, published)  # + 0.0 turns -0.0, which would be shown as -0.00, into 0.0


def _reason(key: str, reasons: Mapping[str, str]) -> str | None:
    """Return why a metric is missing: the reason whose place in the details is named by the metric's key.

    >>> _reason("all_avg", {"all_avg": "no IJB-B"})
    'no IJB-B'
    >>> _reason("ijbb_tar_at_far_1e-04", {"IJBB.tar_at_far.1e-04": "too few impostors"})
    'too few impostors'
    """
    for place, reason in reasons.items():
        name, *rest = place.lower().split(".")
        if key == place or (key.startswith(f"{name}_") and all(part in key for part in rest)):
            return reason
    return None


def _check_metrics(table: Table, gathered: Mapping[str, Gathered]) -> None:
    """Refuse a column that no run of the table could ever fill."""
    for column in table.columns if gathered else ():
        suite, _, key = column.metric.partition(".")
        rows = [row for row in gathered.values() if suite in row.measured]
        if len(rows) < len(gathered):
            there = ", ".join(next(iter(gathered.values())).measured)
            raise LookupError(f"column {column.name}: no suite {suite!r}, there are {there}")
        if not any(key in row.measured[suite] or _reason(key, row.unmeasured.get(suite, {})) for row in rows):
            metrics = [item for row in rows for item in row.measured[suite].items()]
            keys = ", ".join(sorted({name for name, value in metrics if not isinstance(value, str)}))
            raise LookupError(f"column {column.name}: no {column.metric}; {suite} has {keys}")


def _mark_best(lines: Sequence[Line], index: int, column: Column) -> list[Line]:
    """Mark the best measured value, and those that tie with it, where at least two rows were measured."""
    values = [line.cells[index].measured for line in lines]
    measured = [value for value in values if value is not None]
    if len(measured) < 2 or len(set(measured)) == 1:
        return list(lines)
    best = max(measured) if column.higher_is_better else min(measured)
    return [
        replace(line, cells=_replaced(line.cells, index, replace(line.cells[index], best=value == best)))
        for line, value in zip(lines, values, strict=True)
    ]


def _replaced(cells: tuple[Cell, ...], index: int, cell: Cell) -> tuple[Cell, ...]:
    return (*cells[:index], cell, *cells[index + 1 :])


def _agreement(cells: Iterable[Cell]) -> Agreement:
    both = [(cell.published, cell.measured) for cell in cells]
    published = [left for left, right in both if left is not None and right is not None]
    measured = [right for left, right in both if left is not None and right is not None]
    return Agreement(count_pairs(published, measured), len(published), chance(published, measured))


def _check_ablation(table: Table, gathered: Mapping[str, Gathered]) -> None:
    if not gathered:
        return
    there = {name for row in gathered.values() for name in row.parameters}
    unknown = [name for name in table.ablation if name not in there]
    if unknown:
        raise LookupError(
            f"ablation: no run has the parameter {', '.join(unknown)}; there are {', '.join(sorted(there))}"
        )
