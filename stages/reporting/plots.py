"""A table's plots: order of rows, training curves, ROC, identification rate by rank, error versus discard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from stages.reporting import wording
from stages.reporting.comparison import Comparison, Line
from stages.reporting.panels import INK, LINESTYLES, PAPER, SERIES, STYLE, Panel, Plot, Series, draw

__all__ = ["INK", "LINESTYLES", "PAPER", "SERIES", "STYLE", "Panel", "Plot", "Series", "draw", "plots"]

_MANY_RANKS = 50


def plots(comparison: Comparison, names: Sequence[str] = ()) -> list[Plot]:
    """Return the plots for which the rows have curves, in page order; only those in ``names`` if given."""
    found = [
        Plot("order", "Published against measured order",
             "The best row is on top. Crossing lines are rows in different order.", tuple(_orders(comparison))),
        Plot("seeds", "Each training run",
             "A dot is one training run; the bar is the mean ± one standard deviation.",
             tuple(_trainings(comparison))),
        Plot("roc", "Verification",
             "Share of genuine pairs accepted at each false accept rate.", tuple(_rocs(comparison))),
        Plot("det", "Detection error trade-off",
             "Share of genuine pairs rejected at each false accept rate, both on a logarithmic scale: "
             "lower is better, and rare errors stay visible.", tuple(_dets(comparison))),
        Plot("rank", "Identification",
             "Share of probes whose subject is among the first k of the gallery.", tuple(_ranks(comparison))),
        Plot("discard", "Error versus discard",
             "FNMR among the remaining pairs when those of lowest quality are discarded; "
             "the better the quality score, the faster it falls.", tuple(_discards(comparison))),
    ]  # fmt: skip
    return [plot for plot in found if plot.panels and (not names or plot.name in names)]


def _trainings(comparison: Comparison) -> Iterator[Panel]:
    if all(len(line.seeds) < 2 for line in comparison.lines):
        return
    for index, column in enumerate(comparison.table.columns):
        measured = [
            (style, line) for style, line in enumerate(comparison.lines) if line.cells[index].measured is not None
        ]
        series = tuple(
            Series(line.label, style, line.cells[index].raw, [place] * len(line.cells[index].raw))
            for place, (style, line) in enumerate(measured)
        )
        if series:
            yield Panel(column.name, column.unit, "", series, dots=True)


def _orders(comparison: Comparison) -> Iterator[Panel]:
    columns = zip(comparison.table.columns, comparison.columns, strict=True)
    for index, (column, found) in enumerate(columns):
        if found.tau is None:
            continue
        both = [
            (style, line, line.cells[index].published, line.cells[index].measured)
            for style, line in enumerate(comparison.lines)
            if line.cells[index].difference is not None
        ]
        sign = -1 if column.higher_is_better else 1
        published = [sign * float(left) for _, _, left, _ in both if left is not None]
        measured = [sign * float(right) for _, _, _, right in both if right is not None]
        series = tuple(
            Series(line.label, style, (0, 1), (_rank(published, place), _rank(measured, place)))
            for place, (style, line, _, _) in enumerate(both)
        )
        title = f"{column.name} (τ {wording.agreement(found)})"
        yield Panel(title, "", "rank", series, ranks=True)


def _rank(values: Sequence[float], place: int) -> float:
    """Return the rank of one value, 1 for the lowest; tied values share the mean of their ranks."""
    lower = sum(value < values[place] for value in values)
    return lower + (1 + values.count(values[place])) / 2


def _rocs(comparison: Comparison) -> Iterator[Panel]:
    for suite, name in _sets(comparison, ("hq", "ijb", "lq"), "roc"):
        series = tuple(_series(comparison, suite, "roc", {"set": name}, "far", "tar", log_x=True))
        if series:
            title = _title(comparison, suite, name)
            yield Panel(title, "false accept rate", "true accept rate", series, log_x=True, top=1.02)


def _dets(comparison: Comparison) -> Iterator[Panel]:
    for suite, name in _sets(comparison, ("hq", "ijb", "lq"), "roc"):
        found = _series(comparison, suite, "roc", {"set": name}, "far", "fnmr", log_x=True)
        # a rate of none has no place on a logarithmic scale
        series = tuple(
            Series(line.label, line.style, *map(list, zip(*points, strict=True)))
            for line in found
            if (points := [(x, y) for x, y in zip(line.x, line.y, strict=True) if y > 0])
        )
        if series:
            title = _title(comparison, suite, name)
            yield Panel(title, "false accept rate", "false reject rate", series, log_x=True, log_y=True, top=1)


def _ranks(comparison: Comparison) -> Iterator[Panel]:
    for suite, name in _sets(comparison, ("ijb", "lq"), "cmc"):
        series = tuple(_series(comparison, suite, "cmc", {"set": name}, "rank", "rate"))
        if series:
            # among hundreds the first ranks are what tells rows apart
            many = max(max(line.x) for line in series) > _MANY_RANKS
            yield Panel(_title(comparison, suite, name), "rank k", "identified", series, log_x=many)


def _sets(comparison: Comparison, suites: Sequence[str], stem: str) -> Iterator[tuple[str, Any]]:
    """Yield suite and set of every curve of one kind."""
    for suite in suites:
        for name in _distinct(comparison, suite, stem, "set"):
            yield suite, name


def _discards(comparison: Comparison) -> Iterator[Panel]:
    rates = [rate for rate in _distinct(comparison, "fiqa", "edc", "fmr") if isinstance(rate, float)]
    if not rates:
        return
    rate = max(rates)  # it rests on the most impostor pairs
    for name in _distinct(comparison, "fiqa", "edc", "set"):
        found = []
        for convention in _distinct(comparison, "fiqa", "edc", "convention"):
            for method in _distinct(comparison, "fiqa", "edc", "method"):
                chosen = {"set": name, "convention": convention, "fmr": rate, "method": method}
                series = tuple(_series(comparison, "fiqa", "edc", chosen, "discard", "fnmr"))
                if series:
                    title = f"{_title(comparison, 'fiqa', name)}, score {method}, {convention} curve"
                    found.append((title, convention, series))
        # one height for a set, so that methods can be compared by eye
        top = 1.05 * max((max(line.y) for _, _, series in found for line in series), default=0)
        for title, convention, series in found:
            yield Panel(
                title,
                "discarded share",
                f"FNMR at FMR {rate:g}",
                series,
                top=top or None,
                steps=convention == "iso",
            )


def _distinct(comparison: Comparison, suite: str, stem: str, key: str) -> list[Any]:
    """Return the distinct values of one field over all rows' curves, in order of appearance."""
    points = [point for line in comparison.runs for point in _points(line, suite, stem)]
    return list(dict.fromkeys(point[key] for point in points))


def _points(line: Line, suite: str, stem: str) -> list[dict[str, Any]]:
    return list(line.gathered.curves.get(suite, {}).get(stem, [])) if line.gathered else []


def _series(
    comparison: Comparison, suite: str, stem: str, chosen: dict[str, Any], x: str, y: str, log_x: bool = False
) -> Iterator[Series]:
    for style, line in enumerate(comparison.lines):
        points = [
            (float(point[x]), float(point[y]))
            for point in _points(line, suite, stem)
            if all(point[key] == value for key, value in chosen.items())
            and point[x] is not None and point[y] is not None and not (log_x and point[x] <= 0)
        ]  # fmt: skip
        if points:
            points.sort()
            yield Series(line.label, style, [left for left, _ in points], [right for _, right in points])


def _title(comparison: Comparison, suite: str, name: str) -> str:
    """Return a set's name in the table's words if it has its own column."""
    titles = {column.metric: column.name for column in comparison.table.columns}
    return titles.get(f"{suite}.{name}", titles.get(f"hq.{name}", name))
