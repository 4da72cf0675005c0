"""A table's plots as SVG: order of rows, ROC, identification rate by rank, error versus discard.

Bytes depend on the numbers alone: no dates, no random ids.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from stages.core.spread import spread
from stages.reporting import words
from stages.reporting.comparison import Comparison, Line

# one per row of the table; the page replaces them, and the two below, by colours of its light and dark theme
SERIES = ("#0072b2", "#d55e00", "#009e73", "#b0559a", "#a67c00", "#3a9bd1", "#7a7a7a")
INK, PAPER = "#1c2128", "#fffffe"
LINESTYLES = ("-", "--", ":", "-.")
_MANY_RANKS = 50
_DECIMALS = re.compile(r"(\d\.\d\d)\d+")
PANEL_INCHES = (3.3, 2.6)
STYLE = {
    "svg.fonttype": "none",  # text stays text: small, searchable, in the page's own font
    "svg.hashsalt": "facet",
    "font.size": 9, "axes.titlesize": 9.5, "axes.labelsize": 8.5, "xtick.labelsize": 8, "ytick.labelsize": 8,
    "text.color": INK, "axes.edgecolor": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.facecolor": PAPER, "figure.facecolor": PAPER, "axes.linewidth": 0.6, "lines.linewidth": 1.6,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": INK,
    "grid.alpha": 0.14, "grid.linewidth": 0.6, "legend.frameon": False,
}  # fmt: skip


@dataclass(frozen=True)
class Series:
    """One line in a panel; ``style`` is the row's index, so that a row looks the same in every panel."""

    label: str
    style: int
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Panel:
    """One set of axes."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    log_x: bool = False
    log_y: bool = False
    top: float | None = None  # of the y axis
    steps: bool = False
    ranks: bool = False  # x is published and measured, y the rank: a slope chart
    dots: bool = False  # x is every seed's value, y the row's place


@dataclass(frozen=True)
class Plot:
    """Panels that belong together: one file beside the table, and one figure each on the page."""

    name: str
    title: str
    caption: str
    panels: tuple[Panel, ...]


def plots(comparison: Comparison, names: Sequence[str] = ()) -> list[Plot]:
    """Return the plots that the rows have curves for, in the order of the page; with ``names`` those alone."""
    found = [
        Plot("order", "Published against measured order",
             "Best on top. Lines that cross are rows that changed places.", tuple(_orders(comparison))),
        Plot("seeds", "Each training",
             "A dot is one training; the bar is the mean and a standard deviation to both sides.",
             tuple(_trainings(comparison))),
        Plot("roc", "Verification",
             "Share of genuine pairs accepted at each false accept rate.", tuple(_rocs(comparison))),
        Plot("det", "Detection error trade-off",
             "Share of genuine pairs rejected at each false accept rate, both on a logarithmic scale: "
             "the lower the better, and rare errors keep their room.", tuple(_dets(comparison))),
        Plot("rank", "Identification",
             "Share of probes whose subject is among the first k of the gallery.", tuple(_ranks(comparison))),
        Plot("discard", "Error versus discard",
             "FNMR among the pairs that remain when those of lowest quality are put aside; "
             "the better the quality score, the faster it falls.", tuple(_discards(comparison))),
    ]  # fmt: skip
    return [plot for plot in found if plot.panels and (not names or plot.name in names)]


def draw(panels: Sequence[Panel], legend: bool = True) -> str:
    """Return panels side by side, three to a line, as one SVG document."""
    across = min(3, len(panels))
    down = math.ceil(len(panels) / across)
    with matplotlib.rc_context(STYLE):
        width, height = PANEL_INCHES
        figure = Figure((width * across, height * down + (0.3 if legend else 0)), layout="constrained")
        axes_P = figure.subplots(down, across, squeeze=False).flatten()
        for axes, panel in zip(axes_P, panels, strict=False):
            _draw_panel(axes, panel)
        for axes in axes_P[len(panels) :]:
            axes.set_axis_off()
        if legend:
            handles = {line.get_label(): line for axes in axes_P for line in axes.get_lines()}
            columns = min(4, len(handles))
            figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns)
        stream = io.StringIO()
        FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None, "Creator": None})
    # a hundredth of a point is seen by nobody, and is half of the bytes
    return re.sub(r' (?:d|x|y)="[^"]*"', lambda found: _DECIMALS.sub(r"\1", found[0]), stream.getvalue())


def _draw_panel(axes: Any, panel: Panel) -> None:
    for series in panel.series:
        look = {
            "color": SERIES[series.style % len(SERIES)],
            "linestyle": LINESTYLES[series.style // len(SERIES) % len(LINESTYLES)],
            "label": series.label,
        }
        if panel.dots:
            axes.plot(series.x, series.y, **{**look, "linestyle": "none"}, marker="o", markersize=3.5, alpha=0.75)
            _draw_spread(axes, series)
        elif panel.ranks:
            axes.plot(series.x, series.y, marker="o", markersize=4, clip_on=False, **look)
        else:
            axes.plot(series.x, series.y, drawstyle="steps-post" if panel.steps else "default", **look)
    axes.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
    if panel.log_x:
        axes.set_xscale("log")
    if panel.ranks:
        _as_slopes(axes, panel)
    elif panel.dots:
        axes.set(ylim=(max(place for series in panel.series for place in series.y) + 0.6, -0.6), yticks=[])
    elif panel.log_y:
        axes.set_yscale("log")
        axes.set_ylim(top=panel.top)
    else:
        axes.set_ylim(bottom=0, top=panel.top)


def _as_slopes(axes: Any, panel: Panel) -> None:
    rows = max(rank for series in panel.series for rank in series.y)
    axes.set(xlim=(-0.05, 1.05), ylim=(rows + 0.4, 0.6), xticks=[0, 1], yticks=range(1, int(rows) + 1))
    axes.set_xticklabels(["published", "measured"])
    axes.grid(visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)


def _draw_spread(axes: Any, series: Series) -> None:
    found = spread(series.x)
    if found is not None and found.std is not None:
        colour = SERIES[series.style % len(SERIES)]
        axes.errorbar(found.mean, series.y[0], xerr=found.std, color=colour, capsize=2.5, elinewidth=1, marker="|")


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
        title = f"{column.name} (τ {words.agreement(found)})"
        yield Panel(title, "", "rank", series, ranks=True)


def _rank(values: Sequence[float], place: int) -> float:
    """Return the rank of one value, 1 for the lowest; values that tie share the mean of their ranks."""
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
                "share put aside",
                f"FNMR at FMR {rate:g}",
                series,
                top=top or None,
                steps=convention == "iso",
            )


def _distinct(comparison: Comparison, suite: str, stem: str, key: str) -> list[Any]:
    """Return the values of one field over all rows' curves, in the order they come in."""
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
    """Return a set's name in the table's words where it has a column of its own."""
    titles = {column.metric: column.name for column in comparison.table.columns}
    return titles.get(f"{suite}.{name}", titles.get(f"hq.{name}", name))
