"""A table as one HTML page that needs nothing beside it: table, plots and where each number comes from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from stages.report import Column
from stages.reporting import plots, words
from stages.reporting.comparison import Cell, Comparison, Line

STYLE = Path(__file__).with_name("page.css")


def html(comparison: Comparison, drawn: Sequence[plots.Plot]) -> str:
    """Return the whole page."""
    title = escape(comparison.table.title)
    parts = [_head(comparison), _table(comparison), *_plots(comparison, drawn), _provenance(comparison)]
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{title}</title>\n<style>\n{STYLE.read_text(encoding='utf-8')}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _head(comparison: Comparison) -> str:
    table, overall = comparison.table, comparison.overall
    note = f'<p class="lede">{escape(table.note.strip())}</p>\n' if table.note else ""
    facts = [
        ("agreement τ", words.agreement(overall)),
        ("rows measured", f"{len(comparison.runs)} of {len(comparison.lines)}"),
        ("profile", comparison.scale.profile),
        ("seeds", words.seeds(comparison)),
    ]
    tiles = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    caveats = "".join(f"<li>{escape(caveat)}</li>" for caveat in words.caveats(comparison))
    return (
        f'<header>\n<p class="eyebrow">facet · table {escape(comparison.name)}</p>\n'
        f"<h1>{escape(table.title)}</h1>\n{note}"
        f'<p class="verdict">{escape(words.verdict(comparison))}</p>\n'
        f'<dl class="facts">{tiles}</dl>\n</header>\n<ul class="caveats">{caveats}</ul>'
    )


def _table(comparison: Comparison) -> str:
    columns = comparison.table.columns
    heads = "".join(f'<th scope="col">{_heading(column)}</th>' for column in columns)
    rows = "\n".join(_row(line, columns, style) for style, line in enumerate(comparison.lines))
    taus = "".join(f"<td>{escape(words.agreement(found))}</td>" for found in comparison.columns)
    return (
        '<section>\n<h2>Measured beside published</h2>\n<div class="scroll" tabindex="0" role="region" '
        'aria-label="Measured beside published">\n<table>\n'
        f'<thead><tr><th scope="col"></th>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n'
        f'<tfoot><tr><th scope="row">Kendall’s τ</th>{taus}</tr></tfoot>\n</table>\n</div>\n'
        '<p class="key"><b>Bold</b>: best measured. Under it, where a document has the number: '
        f"published, and measured minus published. {escape(words.units(comparison))}</p>\n"
        f'<p class="key">Published: {escape(comparison.table.source.strip())}</p>\n</section>'
    )


def _heading(column: Column) -> str:
    arrow = "" if column.higher_is_better else ' <span class="down" title="lower is better">↓</span>'
    return escape(column.name) + arrow


def _row(line: Line, columns: Sequence[Column], style: int) -> str:
    swatch = f'<i class="swatch s{style % len(plots.SERIES)}"></i>' if line.gathered else ""
    settings = [f"{name} {value}" for name, value in line.parameters.items()]
    if line.gathered is None:
        settings = ["published only"]
    small = "".join(f"<small>{escape(text)}</small>" for text in settings)
    pairs = zip(line.cells, columns, strict=True)
    cells = "".join(_cell(cell, column) for cell, column in pairs)
    return f'<tr><th scope="row"><div>{swatch}<span>{escape(line.label)}{small}</span></div></th>{cells}</tr>'


def _cell(cell: Cell, column: Column) -> str:
    measured = words.number(cell.measured, column.decimals)
    shown = f"<b>{measured}</b>" if cell.best else measured
    shown += f'<span class="spread">{words.spread(cell, column.decimals)}</span>' if cell.std is not None else ""
    if cell.missing:
        shown = f'<em title="{escape(cell.reason)}">{escape(cell.missing)}</em>'
    published = ""
    if cell.published is not None:
        difference = words.number(cell.difference, column.decimals, signed=True)
        published = f"<small>{words.number(cell.published, column.decimals)}</small>"
        published += f"<small>{difference}</small>" if difference else ""
    return f'<td title="{escape(column.metric)}">{shown}{published}</td>'


def _plots(comparison: Comparison, drawn: Sequence[plots.Plot]) -> Iterator[str]:
    legend = "".join(
        f'<li><i class="swatch s{style % len(plots.SERIES)}"></i>{escape(line.label)}</li>'
        for style, line in enumerate(comparison.lines)
        if line.gathered
    )
    for plot in drawn:
        figures = "\n".join(
            f'<figure aria-label="{escape(panel.title)}">{inline(plots.draw([panel], legend=False))}</figure>'
            for panel in plot.panels
        )
        yield (
            f'<section>\n<h2>{escape(plot.title)}</h2>\n<p class="key">{escape(plot.caption)}</p>\n'
            f'<ul class="legend">{legend}</ul>\n<div class="panels">\n{figures}\n</div>\n</section>'
        )


def inline(svg: str) -> str:
    """Return an SVG document as an element of a page: as wide as its place, in the page's colours."""
    element = svg[svg.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    element = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", element, count=1)
    element = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", element, count=1)
    # ids of groups would repeat from figure to figure; those referred to are hashes of what they hold
    used = set(re.findall(r"#([\w-]+)[\")]", element))
    element = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", element)
    for number, colour in enumerate(plots.SERIES):
        element = element.replace(colour, f"var(--s{number})")
    element = element.replace(plots.INK, "var(--ink)").replace(plots.PAPER, "var(--card)")
    return re.sub(r"'DejaVu Sans'[^\";]*", "inherit", element).strip()


def _provenance(comparison: Comparison) -> str:
    rows = "\n".join(_made_of(line) for line in comparison.runs)
    metrics = "".join(
        f"<dt>{escape(column.name)}</dt><dd><code>{escape(column.metric)}</code></dd>"
        for column in comparison.table.columns
    )
    return (
        f"<section>\n<h2>Where the numbers come from</h2>\n{rows}\n"
        f'<details><summary>Columns</summary><dl class="made">{metrics}</dl></details>\n</section>'
    )


def _made_of(line: Line) -> str:
    assert line.gathered is not None
    facts = [
        ("run", line.gathered.run),
        ("weights, SHA-256", line.gathered.weights_sha256),
        *((name, str(value)) for name, value in line.gathered.parameters.items()),
    ]
    entries = "".join(f"<dt>{escape(key)}</dt><dd><code>{escape(value)}</code></dd>" for key, value in facts)
    return f'<details><summary>{escape(line.label)}</summary><dl class="made">{entries}</dl></details>'
