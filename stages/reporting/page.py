"""HTML page of a table, without other files: table, plots and the provenance of each number."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from stages.config.table import Column
from stages.core.metrics.agreement_spread import SHARE
from stages.reporting import findings, groups, plots, provenance, wording
from stages.reporting.compact import compact, share
from stages.reporting.comparison import Cell, Comparison, Line

_FIRST_CLAIMS = 2
"""So many stand above a table; more are listed below it alone."""
STYLE = Path(__file__).with_name("page.css")


def html(comparison: Comparison, drawn: Sequence[plots.Plot]) -> str:
    """Return the whole page of a table."""
    body = [head(comparison), measured(comparison), claims(comparison), groups.html(comparison), elsewhere(comparison)]
    body += _plots(comparison, drawn)
    return document(comparison.table.title, [*body, provenance.section([comparison])])


def document(title: str, body: Sequence[str]) -> str:
    """Return a page that needs no other files."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>\n{STYLE.read_text(encoding='utf-8')}</style>\n</head>\n"
        "<body>\n<main>\n" + share("\n".join(part for part in body if part)) + "\n</main>\n</body>\n</html>\n"
    )


def linked(html: str) -> str:
    """Return a page with its style in ``page.css`` beside it, as pages of one folder share it."""
    return re.sub(r"<style>.*?</style>", f'<link rel="stylesheet" href="{STYLE.name}">', html, count=1, flags=re.DOTALL)


def head(comparison: Comparison) -> str:
    """Return a table's question, result and caveats."""
    table, overall = comparison.table, comparison.overall
    facts = [
        ("agreement τ", wording.agreement(overall)),
        *([("τ, seed bootstrap", wording.interval(overall))] if overall.interval else []),
        *([("orders in words", wording.claims_held(comparison))] if comparison.claims else []),
        ("rows measured", f"{len(comparison.runs)} of {len(comparison.lines)}"),
        ("profile", comparison.scale.profile),
        ("seeds", wording.seeds(comparison)),
    ]
    tiles = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    caveats = "".join(f"<li>{escape(caveat)}</li>" for caveat in wording.caveats(comparison))
    return (
        f'<header>\n<p class="eyebrow">facet · table {escape(comparison.name)}</p>\n'
        f"<h1>{escape(table.title)}</h1>\n{claimed(comparison)}{paragraph('lede', table.note)}"
        f'<p class="verdict">{escape(wording.verdict(comparison))}</p>\n{finding(comparison)}'
        f'<dl class="facts">{tiles}</dl>\n</header>\n<ul class="caveats">{caveats}</ul>'
    )


def claimed(comparison: Comparison) -> str:
    """Return what a paper claims in words, what was found and how sure that is; nothing for a table of many claims."""
    if len(comparison.claims) > _FIRST_CLAIMS:
        return ""
    sure = "; of one seed the spread is unknown" if len(comparison.seeds) == 1 else ""
    return "".join(
        paragraph("verdict", f"Claimed: {one.claim.text.rstrip('.')}. Found: {wording.claim(one)}{sure}.")
        for one in comparison.claims
    )


def finding(comparison: Comparison) -> str:
    """Return what was found in the results that the page shows, or nothing."""
    one = findings.found(comparison)
    return paragraph("finding", one.text) if one and one.here else ""


def elsewhere(comparison: Comparison) -> str:
    """Return, behind a fold, what was found in other results of the table, or nothing."""
    one = findings.found(comparison)
    if one is None or one.here:
        return ""
    text = paragraph("finding", one.text)
    return f"<section>\n<details><summary>{one.elsewhere}</summary>{text}</details>\n</section>"


def paragraph(style: str, text: str) -> str:
    """Return a paragraph, or nothing for an empty text."""
    return f'<p class="{style}">{escape(text.strip())}</p>\n' if text.strip() else ""


def measured(comparison: Comparison) -> str:
    """Return the table itself: measured beside published, each measured cell linked to its provenance."""
    columns = comparison.table.columns
    heads = "".join(f'<th scope="col" title="{escape(column.metric)}">{_heading(column)}</th>' for column in columns)
    rows = "\n".join(_row(comparison, line, style) for style, line in enumerate(comparison.lines))
    return (
        '<section>\n<h2>Measured beside published</h2>\n<div class="scroll" tabindex="0" role="region" '
        f'aria-label="{escape(comparison.name)}: measured beside published">\n<table>\n'
        f'<thead><tr><th scope="col"></th>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n'
        f"<tfoot>{_taus(comparison)}</tfoot>\n</table>\n</div>\n"
        '<p class="key"><b>Bold</b>: best measured. Below, if a paper gives the number: '
        f"published, and measured minus published. {escape(wording.units(comparison))} "
        "A measured value links to its provenance.</p>\n"
        f'<p class="key">Published: {escape(comparison.table.source.strip())}</p>\n</section>'
    )


def _taus(comparison: Comparison) -> str:
    if comparison.overall.tau is None:
        return ""
    cells = []
    for found in comparison.columns:
        over_seeds = f"<small>{wording.interval(found)}</small>" if found.interval and found.tau is not None else ""
        cells.append(f"<td>{escape(wording.agreement(found))}{over_seeds}</td>")
    small = f"<small>{SHARE:.0%} seed bootstrap</small>" if comparison.overall.interval else ""
    return f'<tr><th scope="row">Kendall’s τ{small}</th>{"".join(cells)}</tr>'


def _heading(column: Column) -> str:
    arrow = "" if column.higher_is_better else ' <span class="down" title="lower is better">↓</span>'
    return escape(column.name) + arrow


def _row(comparison: Comparison, line: Line, style: int) -> str:
    swatch = f'<i class="swatch s{style % len(plots.SERIES)}"></i>' if line.gathered else ""
    settings = [f"{name} {value}" for name, value in line.parameters.items() if value is not None]
    if line.gathered is None:
        settings = ["published only"]
    small = "".join(f"<span>{escape(text)}</span> " for text in settings)
    small = f'<small class="set">{small}</small>' if small else ""
    made = provenance.anchor(comparison, line)
    cells = "".join(
        _cell(cell, column, made)
        for cell, column in zip(line.cells, comparison.table.columns, strict=True)
    )
    return f'<tr><th scope="row"><div>{swatch}<span>{escape(line.label)}{small}</span></div></th>{cells}</tr>'


def _cell(cell: Cell, column: Column, made: str) -> str:
    number = wording.number(cell.measured, column.decimals)
    shown = f'<a href="#{made}">{f"<b>{number}</b>" if cell.best else number}</a>' if number else ""
    shown += f'<span class="spread">{wording.spread(cell, column.decimals)}</span>' if cell.std is not None else ""
    if cell.missing:
        shown = f'<em title="{escape(cell.reason)}">{escape(cell.missing)}</em>'
    published = ""
    if cell.published is not None:
        difference = wording.difference(cell, column.decimals)
        best = ' class="top"' if cell.best_published else ""
        published = f"<small{best}>{wording.number(cell.published, column.decimals)}</small>"
        reason = f' title="{escape(cell.apart)}"' if cell.apart else ""
        published += f"<small{reason}>{difference}</small>" if difference else ""
    return f'<td>{shown}{published}</td>'


def claims(comparison: Comparison) -> str:
    """Return the orders that papers state in words, and the result of checking each."""
    if not comparison.claims:
        return ""
    items = []
    for checked in comparison.claims:
        mark = checked.verdict
        items.append(
            f'<li><b class="mark {mark.replace(" ", "-")}">{mark}</b> <span>{escape(checked.claim.text)}'
            f"<small>{escape(wording.claim(checked))}</small><small>{escape(checked.claim.source)}</small></span></li>"
        )
    return (
        '<section>\n<h2>Stated in words</h2>\n<p class="key">Orders that papers state. A claim holds when every '
        "comparison holds in every seed; on average: for the means, but not in every seed.</p>"
        f'\n<ul class="claims">{"".join(items)}</ul>\n</section>'
    )


def _plots(comparison: Comparison, drawn: Sequence[plots.Plot]) -> Iterator[str]:
    for plot in drawn:
        yield figures(comparison, plot)


def figures(comparison: Comparison, plot: plots.Plot) -> str:
    """Return a plot as a section of the page."""
    legend = "".join(
        f'<li><i class="swatch s{style % len(plots.SERIES)}"></i>{escape(line.label)}</li>'
        for style, line in enumerate(comparison.lines)
        if line.gathered
    )
    drawn = "\n".join(
        f'<figure>{compact(plots.draw([panel], legend=False))}</figure>'
        for panel in plot.panels
    )
    return (
        f'<section>\n<h2>{escape(plot.title)}</h2>\n<p class="key">{escape(plot.caption)}</p>\n'
        f'<ul class="legend">{legend}</ul>\n<div class="panels">\n{drawn}\n</div>\n</section>'
    )


def inline(svg: str) -> str:
    """Return an SVG document as an element of a page: full width, in the page's colours."""
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
