"""Comparison of measured with published numbers: the cells of a table, and the agreement of both orders."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from stages.config.table import Column, Gathered, Row, Scale, Table
from stages.core.errors import InputError, UnknownNameError
from stages.core.metrics.missing import left_out, recorded_reason, why
from stages.core.metrics.published_sets import why_apart
from stages.core.metrics.spread import rounded, spread
from stages.reporting import claims
from stages.reporting.rank_agreement import Agreement, Ordered, agreements


@dataclass(frozen=True)
class Cell:
    """One value of one row, in its column's unit and rounded as shown; None is an empty cell."""

    measured: float | None = None  # the mean over seeds
    published: float | None = None
    missing: str = ""  # NOT_MEASURABLE or NOT_MEASURED; empty where there is a value, or no run
    reason: str = ""
    apart: str = ""  # why measured and published value are not compared; empty if they are, or one of them lacks
    best: bool = False
    best_published: bool = False
    std: float | None = None  # over seeds, divisor n - 1; None of one
    by_seed: Mapping[int, float] = field(default_factory=dict)  # each rounded as shown
    raw: tuple[float, ...] = ()  # in the order of the seeds, not rounded

    @property
    def difference(self) -> float | None:
        """Measured minus published; None if they are not compared."""
        if self.measured is None or self.published is None or self.apart:
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
    by_seed: Mapping[int, Gathered] = field(default_factory=dict)  # what each of its runs measured

    @property
    def gathered(self) -> Gathered | None:
        """The results of the first seed; None for a row without a run."""
        return next(iter(self.by_seed.values()), None)

    @property
    def seeds(self) -> list[int]:
        """The seeds of its runs."""
        return list(self.by_seed)


@dataclass(frozen=True)
class Comparison:
    """A table with everything measured for it."""

    name: str
    table: Table
    scale: Scale
    lines: tuple[Line, ...]
    columns: tuple[Agreement, ...]  # in the table's order
    overall: Agreement
    claims: tuple[claims.Checked, ...] = ()

    @property
    def runs(self) -> list[Line]:
        """The rows that have a run."""
        return [line for line in self.lines if line.gathered is not None]

    @property
    def seeds(self) -> list[int]:
        """The seeds of all runs, each once."""
        return sorted({seed for line in self.lines for seed in line.seeds})


def compare(name: str, table: Table, scale: Scale, gathered: Mapping[str, Sequence[Gathered]]) -> Comparison:
    """Combine the gathered results, by row key with one run per seed, with the published numbers.

    Raises:
        LookupError: a metric or an ablation parameter that no run has; the message lists those there are.
    """
    _check_ablation(table, [run for runs in gathered.values() for run in runs])
    _check_metrics(table, gathered)
    lines = [_line(key, row, table, scale, gathered.get(key, ())) for key, row in table.rows.items()]
    for index, column in enumerate(table.columns):
        lines = _mark_best(lines, index, column)
    columns, overall = agreements(
        [[_ordered(line.cells[index]) for line in lines] for index in range(len(table.columns))],
        [column.decimals for column in table.columns],
    )
    rows = {line.key: _of_claims(line, table, scale) for line in lines} if table.claims else {}
    checked = tuple(claims.check(claim, table.columns, rows) for claim in table.claims)
    return Comparison(name, table, scale, tuple(lines), columns, overall, checked)


def _of_claims(line: Line, table: Table, scale: Scale) -> list[claims.Measured]:
    """Return a row as claims take it: the order of rows is a published thing too."""
    row, runs = table.rows[line.key], line.by_seed.values()
    return [
        claims.Measured(line.label, cell.measured, cell.by_seed, _apart(column.suite, column.key(row), runs, scale))
        for column, cell in zip(table.columns, line.cells, strict=True)
    ]


def _line(key: str, row: Row, table: Table, scale: Scale, gathered: Sequence[Gathered]) -> Line:
    by_seed = {int(run.parameters.get("seed", place)): run for place, run in enumerate(gathered)}
    cells = tuple(_cell(column, row, by_seed, scale) for column in table.columns)
    if not gathered:
        return Line(key, row.label, row.run, cells)
    there = gathered[0].parameters
    parameters = {name: there[name] for name in table.ablation if name in there}
    return Line(key, row.label, row.run, cells, parameters, by_seed)


def _cell(column: Column, row: Row, by_seed: Mapping[int, Gathered], scale: Scale) -> Cell:
    """Return a cell; missing if one seed lacks the metric, because the means would not be comparable."""
    published = row.published.get(column.name)
    if not by_seed:
        return Cell(published=published)
    suite, key = column.suite, column.key(row)
    values: dict[int, float] = {}
    for seed, run in by_seed.items():
        value = run.measured[suite].get(key)
        if value is None:
            recorded, switches = run.unmeasured.get(suite, {}), run.switches.get(suite, {})
            missing, reason = why(suite, key, recorded, switches, _measured_on(run))
            return Cell(published=published, missing=missing, reason=reason)
        if isinstance(value, str):
            raise InputError(f"column {column.name}: {suite}.{key} is {value!r}, not a number")
        values[seed] = value * (100 if column.unit == "percent" else 1)
    found = spread(list(values.values()))
    assert found is not None
    return Cell(
        rounded(found.mean, column.decimals),
        published,
        apart="" if published is None else _apart(suite, key, by_seed.values(), scale),
        std=None if found.std is None else rounded(found.std, column.decimals),
        by_seed={seed: rounded(value, column.decimals) for seed, value in values.items()},
        raw=tuple(values.values()),
    )


def _apart(suite: str, key: str, runs: Iterable[Gathered], scale: Scale) -> str:
    """Return why the runs' values are not compared with a published one; empty if they are."""
    reasons = []
    for run in runs:
        name = _measured_on(run)
        said = scale.data[name].model_dump() if name in scale.data else None
        reasons.append(why_apart(suite, key, name, said, run.counts))
    return next(filter(None, reasons), "")


def _measured_on(run: Gathered) -> str:
    """Return the data set of a run's test sets."""
    return run.measured_on or str(run.parameters.get("dataset", ""))


def _ordered(cell: Cell) -> Ordered:
    return Ordered(None if cell.apart else cell.published, cell.measured, dict(cell.by_seed), cell.raw)


def _check_metrics(table: Table, gathered: Mapping[str, Sequence[Gathered]]) -> None:
    """Refuse a column that no run of the table could ever fill."""
    runs = [(table.rows[key], run) for key, found in gathered.items() for run in found]
    for column in table.columns if runs else ():
        suite = column.suite
        if any(suite not in run.measured for _, run in runs):
            raise UnknownNameError(
                f"column {column.name}: no suite {suite!r}, there are {', '.join(runs[0][1].measured)}"
            )
        wanted = [(column.key(row), run) for row, run in runs]
        named = {name for _, run in runs for name in run.switches.get(suite, {}).get("sets", ())}
        if not any(_known(suite, key, run, named) for key, run in wanted):
            metrics = [item for _, run in runs for item in run.measured[suite].items()]
            keys = ", ".join(sorted({name for name, value in metrics if not isinstance(value, str)}))
            asked = ", ".join(dict.fromkeys(f"{suite}.{key}" for key, _ in wanted))
            raise UnknownNameError(f"column {column.name}: no {asked}; {suite} has {keys}")


def _known(suite: str, key: str, run: Gathered, named: Collection[str]) -> bool:
    """Return whether a run has a metric, a reason for its absence, or options that leave it out.

    Args:
        suite: of the metric.
        key: of the metric.
        run: what it measured.
        named: the test sets of all runs of the table.
    """
    measured, reason = run.measured[suite], recorded_reason(key, run.unmeasured.get(suite, {}))
    left = left_out(suite, key, run.switches.get(suite, {}), others=named)
    return key in measured or reason is not None or left is not None


def _mark_best(lines: Sequence[Line], index: int, column: Column) -> list[Line]:
    """Mark the best measured and the best published value, with ties, if at least two values differ."""
    best = _best([line.cells[index].measured for line in lines], column)
    best_published = _best([line.cells[index].published for line in lines], column)
    marked = []
    for line in lines:
        cell = line.cells[index]
        cell = replace(
            cell,
            best=best is not None and cell.measured == best,
            best_published=best_published is not None and cell.published == best_published,
        )
        marked.append(replace(line, cells=(*line.cells[:index], cell, *line.cells[index + 1 :])))
    return marked


def _best(values: Sequence[float | None], column: Column) -> float | None:
    known = [value for value in values if value is not None]
    if len(set(known)) < 2:
        return None
    return max(known) if column.higher_is_better else min(known)


def _check_ablation(table: Table, gathered: Sequence[Gathered]) -> None:
    there = {name for row in gathered for name in row.parameters}
    unknown = [name for name in table.ablation if name not in there] if gathered else []
    if unknown:
        raise UnknownNameError(
            f"ablation: no run has the parameter {', '.join(unknown)}; there are {', '.join(sorted(there))}"
        )
