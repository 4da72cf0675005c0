"""Charts of a run's page: training curves, ROC and identification of each set, error versus discard by method."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from stages.reporting import page, plots
from stages.reporting.panels import Panel, Series
from stages.run_page.reading import Points, RunResults

_TITLES = {"loss": "Loss", "accuracy": "Training accuracy", "learning_rate": "Learning rate"}


def training(run: RunResults) -> list[str]:
    """Return a figure per column of the training curve; those of validation share one."""
    if len(run.training) < 2:
        return []
    names = [name for name in run.training[0] if name != "epoch"]
    looked = [name for name in names if name.startswith("validation_")]
    panels = [
        Panel(_TITLES.get(name, name), "epoch", "", series, bottom=_bottom(series))
        for name in names
        if name not in looked and (series := tuple(_series(run.training, [name], "epoch")))
    ]
    if looked:
        panels.append(Panel("Validation", "epoch", "accuracy", tuple(_series(run.training, looked, "epoch"))))
    return [draw(panel) for panel in panels if panel.series]


def _bottom(series: Sequence[Series]) -> float | None:
    """Return the lower end of an axis: 0, unless a value is below it."""
    return 0 if min(value for one in series for value in one.y) >= 0 else None


def _series(lines: Points, names: Sequence[str], x: str) -> Iterator[Series]:
    for style, name in enumerate(names):
        points = [(float(line[x]), float(line[name])) for line in lines if line.get(name)]
        if points:
            across, up = zip(*points, strict=True)
            yield Series(name.removeprefix("validation_"), style, across, up)


def verification(run: RunResults) -> Iterator[tuple[str, list[str]]]:
    """Yield a ROC figure of each suite, and the names of its lines in the order of their styles."""
    for suite in ("hq", "ijb", "lq"):
        lines = run.curves.get((suite, "roc"), [])
        names = _distinct(lines, "set")
        series = tuple(
            Series(name, style, *_xy([line for line in lines if line["set"] == name], "far", "tar"))
            for style, name in enumerate(names)
        )
        if series:
            panel = Panel(suite, "false accept rate", "true accept rate", series, log_x=True, top=1.02)
            yield draw(panel), names


def identification(run: RunResults) -> list[str]:
    """Return the identification rate by rank of each suite's sets."""
    figures = []
    for suite in ("ijb", "lq"):
        lines = run.curves.get((suite, "cmc"), [])
        for name in _distinct(lines, "set"):
            across, up = _xy([line for line in lines if line["set"] == name], "rank", "rate", positive=False)
            if across:
                many = max(across) > 50
                panel = Panel(name, "rank k", "identified", (Series(name, 0, across, up),), log_x=many, top=1.02)
                figures.append(draw(panel))
    return figures


def discard(run: RunResults) -> tuple[list[str], list[str]]:
    """Return a figure per set of CR-FIQA's curves at the largest rate, and the methods in the order of their styles."""
    lines = [line for line in run.curves.get(("fiqa", "edc"), []) if line["convention"] == "cr_fiqa"]
    if not lines:
        return [], []
    rate = max({line["fmr"] for line in lines}, key=float)
    methods = _distinct(lines, "method")
    figures = []
    for name in _distinct(lines, "set"):
        chosen = [line for line in lines if line["set"] == name and line["fmr"] == rate]
        series = tuple(
            Series(method, style, *_xy([one for one in chosen if one["method"] == method], "discard", "fnmr", False))
            for style, method in enumerate(methods)
            if any(one["method"] == method for one in chosen)
        )
        if series:
            figures.append(draw(Panel(name, "share put aside", f"FNMR at FMR {float(rate):g}", series)))
    return figures, methods


def _distinct(lines: Points, key: str) -> list[str]:
    return list(dict.fromkeys(line[key] for line in lines))


def _xy(lines: Points, x: str, y: str, positive: bool = True) -> tuple[list[float], list[float]]:
    """Return the points by rising x; without those that a logarithmic axis cannot hold, if it is one."""
    points = sorted((float(line[x]), float(line[y])) for line in lines if line[x] and line[y])
    kept = [(left, right) for left, right in points if left > 0 or not positive]
    return [left for left, _ in kept], [right for _, right in kept]


def draw(panel: Panel) -> str:
    """Return a panel as an element of the page."""
    return page.inline(plots.draw([panel], legend=False))
