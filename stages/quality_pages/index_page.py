"""HTML page of all quality methods of one run side by side; it needs no other files."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

import pandas as pd

from stages.quality_pages import charts, method_page, parts
from stages.quality_pages.parts import number
from stages.quality_pages.reading import LEVELS, Run
from stages.reporting import plots


def html(run: Run) -> str:
    """Return the page."""
    body = [_head(run), _numbers(run), *_charts(run), _between(run), _worst(run), parts.origin(run)]
    return parts.document(f"Quality methods · {run.name}", "\n".join(body))


def _head(run: Run) -> str:
    rate = run.rates[0]
    items = "".join(
        f'<li><a href="{escape(method)}.html">{escape(method)}</a>: {escape(said)}</li>'
        for method in run.methods
        if (said := method_page.verdict(run, method))
    )
    facts = [
        ("methods", len(run.methods)),
        ("sets", len(run.sets)),
        ("images", len(run.scores)),
        ("rate compared at", f"FMR {float(rate):g}"),
    ]
    tiles = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    return (
        f'{parts.navigation(run, "")}\n<header>\n'
        f'<p class="eyebrow">facet · quality · run {escape(run.name)}</p>\n'
        f'<h1>Quality methods side by side</h1>\n<dl class="facts">{tiles}</dl>\n</header>\n'
        f'<ul class="caveats">{items}</ul>'
    )


def _numbers(run: Run) -> str:
    tables = [_block(run, "Spearman ρ with known quality", None, "rho")]
    for rate in run.rates:
        at = f"FMR {float(rate):g}"
        tables.append(_block(run, f"CR-FIQA area at {at} ↓", rate, "edc_auc"))
        tables.append(_block(run, f"ISO pAUC at {at} ↓", rate, "iso_pauc"))
    return (
        '<section>\n<h2>Numbers</h2>\n<div class="blocks">\n' + "\n".join(tables) + "\n</div>\n"
        '<p class="key"><b>Bold</b>: best of the set. ↓ lower is better. A dash: the quality is not known, or the '
        f"pairs cannot resolve the rate. In brackets 95 % intervals, resampled over {escape(run.resampled_over)}. All "
        "methods are judged on the same resamples, so a difference can be significant although the intervals overlap; "
        "each method’s page says whether its difference from the feature norm is significant.</p>\n</section>"
    )


def _block(run: Run, title: str, rate: str | None, key: str) -> str:
    """Return a table of one number: one row per method, one column per set."""
    values = {(name, method): _value(run, name, method, rate, key) for name in run.sets for method in run.methods}
    if all(value is None for value in values.values()):
        reason = run.measured(run.sets[0], run.methods[0], rate)["reason"] if rate else "the quality is not known"
        return f'<div><h3>{escape(title)}</h3>\n<p class="key">On no set: {escape(reason)}.</p></div>'
    rows: list[tuple[str, list[str]]] = []
    for method in run.methods:
        cells = []
        for name in run.sets:
            value, rivals = values[name, method], [values[name, other] for other in run.methods]
            known = [rival for rival in rivals if rival is not None]
            best = value is not None and value == (min(known) if rate else max(known)) and len(known) > 1
            shown = f"<b>{number(value)}</b>" if best else number(value)
            area = run.area(name, method, rate) if rate and key == "edc_auc" else None
            cells.append(f"<td>{shown}{_between_limits(area)}</td>")
        link = f'<a href="{escape(method)}.html">{escape(method)}</a>'
        rows.append((link, cells))
    heads = ["", *map(escape, run.sets)]
    return f"<div><h3>{escape(title)}</h3>\n{parts.table(title, heads, rows, 'plain')}</div>"


def _value(run: Run, name: str, method: str, rate: str | None, key: str) -> float | None:
    if rate is None:
        return run.spearman(name, method)
    value: float | None = run.measured(name, method, rate)[key]
    return value


def _between_limits(area: dict[str, float] | None) -> str:
    return f"<small>[{number(area['low'])}, {number(area['high'])}]</small>" if area else ""


def _charts(run: Run) -> Iterator[str]:
    known = [name for name in run.sets if run.has_truth(name)]
    if known:
        yield parts.panels(
            "Mean rank at each known level",
            "Images of a set ranked by each method, 0 the worst and 1 the best; mean over each fifth of the known "
            "quality. The steeper a line rises, the better the method reflects the degradation of the images.",
            _legend(run), ("", [_ranks(run, name) for name in known]),
        )  # fmt: skip
    yield parts.panels(
        "Error versus discard",
        "CR-FIQA’s curve of each method with its 95 % band: FNMR among the remaining pairs when those of lowest "
        "quality are discarded.",
        _legend(run),
        *((f"FMR {float(rate):g}", [_discard(run, name, rate) for name in run.sets]) for rate in run.rates),
    )


def _legend(run: Run) -> str:
    entries = "".join(
        f'<li><i class="swatch s{i % len(plots.SERIES)}"></i>{escape(method)}</li>'
        for i, method in enumerate(run.methods)
    )
    return f'<ul class="legend">{entries}</ul>'


def _ranks(run: Run, name: str) -> str:
    rows = run.of(name)
    series = {}
    for method in run.methods:
        used = rows[rows[method].notna()]
        rank = (used[method].rank() - 1) / max(len(used) - 1, 1)
        mean = rank.groupby(used["level"]).mean()
        series[method] = pd.DataFrame({"level": (mean.index + 0.5) / len(LEVELS), "rank": mean.to_numpy()})
    return charts.lines(series, "level", "rank", name, ("known quality", "mean rank"), 1.0, 1.0)


def _discard(run: Run, name: str, rate: str) -> str:
    series = {method: run.curve(name, method, rate, "cr_fiqa") for method in run.methods}
    if all(curve.empty for curve in series.values()):
        return charts.unresolved(name, run.measured(name, run.methods[0], rate)["reason"])
    top = max(float(curve[["fnmr", "high"]].max(axis=None)) for curve in series.values())
    labels = ("share put aside", f"FNMR at FMR {float(rate):g}")
    return charts.lines(series, "discard", "fnmr", name, labels, min(1.02, 1.05 * top), 0.95)


def _between(run: Run) -> str:
    """Return the agreement of the methods: Spearman's correlation within each set, mean over the sets."""
    if len(run.methods) < 2:
        return ""
    found = [run.of(name)[run.methods].corr(method="spearman") for name in run.sets]
    mean = sum(found[1:], found[0]) / len(found)
    rows = [(escape(str(method)), [f"<td>{number(rho, 2)}</td>" for rho in mean.loc[method]]) for method in mean]
    return (
        '<section>\n<h2>How alike the methods order images</h2>\n<p class="key">Spearman’s correlation of two methods’ '
        "scores within a set, mean over the sets.</p>\n"
        f"{parts.table('How alike', ['', *map(escape, run.methods)], rows, 'plain')}\n</section>"
    )


def _worst(run: Run) -> str:
    """Return worst and best faces by each method, of the set whose known quality varies most."""
    spread = {name: run.of(name)["known_quality"].std() for name in run.sets}
    known = {name: value for name, value in spread.items() if value > 0}
    chosen = max(known, key=known.__getitem__) if known else run.sets[0]
    rows = run.of(chosen)
    shown = []
    for method in run.methods:
        falling = rows[rows[method].notna()].sort_values(method, ascending=False, kind="stable")
        rising = rows[rows[method].notna()].sort_values(method, kind="stable")
        strips = [
            parts.strip(run, title, ordered.head(parts.NUM_FACES), method)
            for title, ordered in (("worst first", rising), ("best first", falling))
        ]
        shown.append(f'<h3>{escape(method)}</h3>\n<div class="strips">{"".join(strips)}</div>')
    return (
        f"<section>\n<h2>Worst and best images of {escape(chosen)} by each method</h2>\n"
        '<p class="key">Under each image its score, and its known quality where somebody knows it.</p>\n'
        + "\n".join(shown) + "\n</section>"
    )
