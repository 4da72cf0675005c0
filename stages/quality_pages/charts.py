"""Charts of quality pages as SVG in the page's colours: scores by known level, discard curves, score against norm.

Shapes: N images.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from stages.quality_pages.reading import LEVELS
from stages.reporting import page, plots

# of known quality, low to high; page.css has those of the dark theme under the same numbers
LEVEL_COLOURS = ("#b35806", "#e08a2e", "#8c8c8d", "#4f97c7", "#08519c")
CONVENTIONS = {"cr_fiqa": "CR-FIQA: threshold found anew", "iso": "ISO: threshold fixed before"}
_BINS, _HEXAGONS = 36, 20

Limits = tuple[float, float]


@dataclass
class Drawn:
    """A figure, and its SVG once it is closed."""

    axes: Any
    svg: str = ""


@contextmanager
def _figure(height: float = 2.4, width: float = 2.75) -> Iterator[Drawn]:
    with matplotlib.rc_context(plots.STYLE):
        figure = Figure((width, height), layout="constrained")
        drawn = Drawn(figure.subplots())
        yield drawn
        stream = io.StringIO()
        FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None, "Creator": None})
    drawn.svg = page.inline(stream.getvalue())
    for level, colour in enumerate(LEVEL_COLOURS):
        drawn.svg = drawn.svg.replace(colour, f"var(--q{level})")


def score_range(scores: pd.Series[float]) -> Limits:
    """Return an axis range that contains all but a few outliers of all sets."""
    low, high = np.nanquantile(scores, [0.002, 0.998])
    pad = 0.03 * (high - low) or 1.0
    return float(low - pad), float(high + pad)


def histogram(rows: pd.DataFrame, method: str, title: str, limits: Limits, rho: float | None) -> str:
    """Return the scores of one set as one ridge per level of known quality, or as one histogram.

    Args:
        rows: of the set.
        method: column of scores.
        title: of the panel.
        limits: of the axis of scores; what lies beyond counts to the outermost bins.
        rho: Spearman's correlation with known quality.
    """
    edges = np.linspace(*limits, _BINS + 1)
    known = rows[rows["known_quality"].notna() & rows[method].notna()]
    with _figure(height=2.9) as drawn:
        axes = drawn.axes
        if known.empty:
            _ridge(axes, rows[method].dropna().to_numpy(), edges, 0, plots.SERIES[0], 1.0)
            axes.set(ylabel="images", yticks=[])
        else:
            parts = {level: known.loc[known["level"] == level, method].to_numpy() for level in range(len(LEVELS))}
            tallest = max(_shares(part, edges).max() for part in parts.values() if part.size)
            for level, part in parts.items():
                _ridge(axes, part, edges, level, LEVEL_COLOURS[level], 1.25 / tallest)
            axes.set(ylabel="known quality", ylim=(-0.08, len(LEVELS) + 0.85))
            axes.set_yticks(range(len(LEVELS)), [f"{name}\nn {parts[i].size}" for i, name in enumerate(LEVELS)])
            axes.tick_params(axis="y", length=0, labelsize=7)
            for label in axes.get_yticklabels():
                label.set_verticalalignment("bottom")
        axes.set(title=title, xlabel=f"score {method}", xlim=limits)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        if rho is not None:
            _corner(axes, f"Spearman ρ {_signed(rho)}")
    return drawn.svg


def _shares(values: Any, edges: Any) -> Any:
    return np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0] / max(len(values), 1)


def _ridge(axes: Any, values: Any, edges: Any, base: float, colour: str, stretch: float) -> None:
    if not values.size:
        return
    share = _shares(values, edges) * stretch
    x, y = np.repeat(edges, 2)[1:-1], np.repeat(share, 2)
    order = 10 - base
    axes.fill_between(x, base, base + y, color=colour, alpha=0.72, linewidth=0, zorder=order)
    axes.plot(x, base + y, color=colour, linewidth=0.9, zorder=order)
    middle = float(np.clip(np.median(values), edges[0], edges[-1]))
    tall = share[min(int(np.searchsorted(edges, middle, side="right")) - 1, share.size - 1)]
    axes.plot([middle, middle], [base, base + tall], color=plots.INK, linewidth=1.1, zorder=order + 0.1)


def _signed(rho: float) -> str:
    return f"{rho:.2f}".replace("-", "−")


def _corner(axes: Any, text: str) -> None:
    axes.text(0.98, 0.985, text, transform=axes.transAxes, ha="right", va="top", fontsize=8.5, weight="bold")


def discard(curves: Mapping[str, pd.DataFrame], title: str, rate: str, top: float, until: float) -> str:
    """Return both conventions' curves with bands, between random and perfect quality.

    Args:
        curves: by convention: ``discard``, ``fnmr``, ``low``, ``high``.
        title: of the panel.
        rate: false match rate, for the label.
        top: of the FNMR axis, shared by methods.
        until: discard up to which the impostor pairs left resolve the rate.
    """
    with _figure() as drawn:
        axes = drawn.axes
        for number, curve in enumerate(curves.values()):
            colour = plots.SERIES[number]
            banded = curve.dropna()
            axes.fill_between(
                banded["discard"], banded["low"], banded["high"], color=colour, alpha=0.17, linewidth=0
            )
            axes.plot(curve["discard"], curve["fnmr"], color=colour, linestyle="-" if number == 0 else "--")
        start = float(curves["iso"]["fnmr"].iloc[0])
        axes.axhline(start, color=plots.INK, linewidth=0.9, linestyle=(0, (1, 2)))
        aside = np.linspace(0, start, 40)
        # ISO's curve when every comparison put aside was an error
        perfect = [*((start - aside) / (1 - aside)), 0]
        axes.plot([*aside, 0.95], perfect, color=plots.INK, linewidth=0.9, linestyle=(0, (4, 2)))
        if until < 0.95:
            axes.axvline(until, color=plots.INK, linewidth=0.7, alpha=0.45)
        axes.set(
            title=title, xlabel="share put aside", ylabel=f"FNMR at FMR {float(rate):g}", xlim=(0, 0.95), ylim=(0, top)
        )
    return drawn.svg


def unresolved(title: str, reason: str) -> str:
    """Return a panel that states why there is no curve."""
    with _figure() as drawn:
        axes = drawn.axes
        axes.set_axis_off()
        axes.set_title(title)
        words, lines = reason.split(), [""]
        for word in words:
            if len(lines[-1]) + len(word) > 26:
                lines.append("")
            lines[-1] = f"{lines[-1]} {word}".strip()
        axes.text(0.5, 0.55, "FNMR unresolved", ha="center", weight="bold", fontsize=10, transform=axes.transAxes)
        axes.text(0.5, 0.48, "\n".join(lines), ha="center", va="top", fontsize=8.5, transform=axes.transAxes)
    return drawn.svg


def against_norm(rows: pd.DataFrame, method: str, title: str, limits: Limits, norm_limits: Limits) -> str:
    """Return hexagons of images: size by number, colour by mean known quality."""
    rows = rows[rows[method].notna() & rows["norm"].notna()]
    x_N, y_N = rows["norm"].clip(*norm_limits).to_numpy(), rows[method].clip(*limits).to_numpy()
    known_N = rows["known_quality"].to_numpy()
    with _figure() as drawn:
        axes = drawn.axes
        counted = axes.hexbin(x_N, y_N, gridsize=_HEXAGONS, mincnt=1)
        place_H2, count_H = counted.get_offsets(), np.asarray(counted.get_array())
        counted.remove()
        if np.isfinite(known_N).all():
            mean = axes.hexbin(x_N, y_N, C=known_N, gridsize=_HEXAGONS, mincnt=1)
            level_H = np.minimum((np.asarray(mean.get_array()) * len(LEVELS)).astype(int), len(LEVELS) - 1)
            mean.remove()
            colours: Sequence[str] = LEVEL_COLOURS
        else:
            level_H, colours = np.zeros(len(count_H), int), plots.SERIES[:1]
        size_H = 5 + 55 * count_H / count_H.max()
        for level, colour in enumerate(colours):
            at = level_H == level
            axes.scatter(*place_H2[at].T, s=size_H[at], marker="h", color=colour, linewidth=0, alpha=0.9)
        rho = rows["norm"].corr(rows[method], method="spearman")
        room = 0.02 * (limits[1] - limits[0])
        axes.set(title=title, xlabel="feature norm", ylabel=f"score {method}", xlim=norm_limits)
        axes.set_ylim(limits[0] - room, limits[1] + 6 * room)
        _corner(axes, f"ρ {_signed(rho)}")
    return drawn.svg


def lines(
    series: Mapping[str, pd.DataFrame], x: str, y: str, title: str, labels: tuple[str, str], top: float, right: float
) -> str:
    """Return one line per method, with its band if it has one, or else a mark per point."""
    with _figure() as drawn:
        axes = drawn.axes
        for number, points in enumerate(series.values()):
            look: dict[str, Any] = {"color": plots.SERIES[number % len(plots.SERIES)]}
            if "low" in points:
                banded = points.dropna()
                axes.fill_between(banded[x], banded["low"], banded["high"], alpha=0.07, linewidth=0, **look)
            else:
                look |= {"marker": "o", "markersize": 3.5}
            axes.plot(points[x], points[y], linestyle=plots.LINESTYLES[number % len(plots.LINESTYLES)], **look)
        axes.set(title=title, xlabel=labels[0], ylabel=labels[1], xlim=(0, right), ylim=(0, top))
    return drawn.svg
