"""Draws panels of plots as SVG: the bytes depend on the numbers only, without dates or random ids."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from stages.core.metrics.spread import spread

# one per row of the table; the page replaces them, and the two below, by colours of its light and dark theme
SERIES = ("#0072b2", "#d55e00", "#009e73", "#b0559a", "#a67c00", "#3a9bd1", "#7a7a7a")
INK, PAPER = "#1c2128", "#fffffe"
LINESTYLES = ("-", "--", ":", "-.")
_DECIMALS = re.compile(r"(\d\.\d\d)\d+")
PANEL_INCHES = (3.3, 2.6)
_MARGIN_INCHES = (0.6, 0.28, 0.48, 0.28)  # left, right, bottom, top of a panel
AREA_INCHES = (0.6, 0.28, PANEL_INCHES[0] - 0.28, PANEL_INCHES[1] - 0.48)  # left, top, right, bottom of its curves
_LEGEND_COLUMNS, _LEGEND_INCHES = 4, 0.21
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
    """One line in a panel; ``style`` is the row's index, so that a row has the same style in every panel."""

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
    bottom: float | None = 0  # of the y axis; None: below the lowest value
    steps: bool = False
    ranks: bool = False  # x is published and measured, y the rank: a slope chart
    dots: bool = False  # x is every seed's value, y the row's place


@dataclass(frozen=True)
class Plot:
    """Panels that belong together: one file beside the table, and one figure on the page."""

    name: str
    title: str
    caption: str
    panels: tuple[Panel, ...]


def draw(panels: Sequence[Panel], legend: bool = True) -> str:
    """Return panels side by side, three to a line, as one SVG document."""
    across = min(3, len(panels))
    down = math.ceil(len(panels) / across)
    labels = list(dict.fromkeys(line.label for panel in panels for line in panel.series)) if legend else []
    with matplotlib.rc_context(STYLE):
        figure, axes_P = _axes(across, down, _LEGEND_INCHES * math.ceil(len(labels) / _LEGEND_COLUMNS))
        for axes, panel in zip(axes_P, panels, strict=False):
            _draw_panel(axes, panel)
        for axes in axes_P[len(panels) :]:
            axes.set_axis_off()
        if legend:
            lines = {line.get_label(): line for axes in axes_P for line in axes.get_lines()}
            columns = min(_LEGEND_COLUMNS, len(labels))
            figure.legend([lines[label] for label in labels], labels, loc="lower center", ncols=columns)
        stream = io.StringIO()
        FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None, "Creator": None})
    # a hundredth of a point is seen by nobody, and is half of the bytes
    return re.sub(r' (?:d|x|y)="[^"]*"', lambda found: _DECIMALS.sub(r"\1", found[0]), stream.getvalue())


def _axes(across: int, down: int, below: float) -> tuple[Figure, list[Any]]:
    """Return a figure and its panels, with ``below`` inches under them.

    Margins are fixed: a layout that measures every label takes longer than all the drawing.
    """
    width, height = PANEL_INCHES[0] * across, PANEL_INCHES[1] * down + below
    left, right, bottom, top = _MARGIN_INCHES
    figure = Figure((width, height))
    inside = {
        "left": left / width, "right": 1 - right / width, "bottom": (bottom + below) / height, "top": 1 - top / height,
        "wspace": (left + right) / (PANEL_INCHES[0] - left - right),
        "hspace": (bottom + top) / (PANEL_INCHES[1] - bottom - top),
    }  # fmt: skip
    return figure, list(figure.subplots(down, across, squeeze=False, gridspec_kw=inside).flatten())


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
        axes.set_ylim(bottom=panel.bottom, top=panel.top)


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
