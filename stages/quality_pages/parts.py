"""Parts of the quality pages: the document, tables, panels of figures, rows of faces.

Everything a page shows is in it: styles, SVG and JPEG.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd

from stages.quality_pages.reading import LEVELS, Run
from stages.reporting import page

STYLES = (page.STYLE, Path(__file__).with_name("page.css"))
NUM_FACES, NUM_WRONG = 8, 4


def document(title: str, body: str) -> str:
    """Return a whole HTML document."""
    styles = "\n".join(path.read_text(encoding="utf-8") for path in STYLES)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>\n{styles}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def navigation(run: Run, here: str) -> str:
    """Return links to all pages of a run; ``here`` is a method, or empty for the overview."""
    links = [("all methods", "index.html", ""), *((method, f"{method}.html", method) for method in run.methods)]
    shown = (
        f"<b>{escape(text)}</b>" if key == here else f'<a href="{escape(file)}">{escape(text)}</a>'
        for text, file, key in links
    )
    return f"<nav>{''.join(shown)}</nav>"


def number(value: float | None, digits: int = 3, signed: bool = False) -> str:
    """Return a number as text, a dash for none; a number below a hundredth has one decimal more.

    >>> number(0.12345), number(None), number(0.5, 2, signed=True), number(0.00123), number(0.0)
    ('0.123', '–', '+0.50', '0.0012', '0.000')
    """
    if value is None or not np.isfinite(value):
        return "–"
    if 0 < abs(value) < 0.01:
        digits += 1
    return f"{value:{'+' if signed else ''}.{digits}f}".replace("-", "−")


def table(label: str, heads: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]], look: str = "") -> str:
    """Return a table that scrolls sideways if necessary.

    Args:
        label: for those who hear the page.
        heads: HTML of the headings, that of the rows first.
        rows: HTML of each row's heading, and its cells as whole ``<td>``.
        look: a class.
    """
    columns = "".join(f'<th scope="col">{head}</th>' for head in heads)
    lines = "\n".join(f'<tr><th scope="row">{head}</th>{"".join(cells)}</tr>' for head, cells in rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">\n<table class="{look}">\n'
        f"<thead><tr>{columns}</tr></thead>\n<tbody>\n{lines}\n</tbody>\n</table>\n</div>"
    )


def panels(title: str, key: str, legend: str, *groups: tuple[str, list[str]]) -> str:
    """Return a section of figures, in groups with a heading each."""
    shown = []
    for heading, figures in groups:
        drawn = "\n".join(f"<figure>{figure}</figure>" for figure in figures)
        above = f"<h3>{escape(heading)}</h3>\n" if heading else ""
        shown.append(f'{above}<div class="panels">\n{drawn}\n</div>')
    lines = "\n".join(shown)
    return f'<section>\n<h2>{escape(title)}</h2>\n<p class="key">{escape(key)}</p>\n{legend}\n{lines}\n</section>'


def level_legend() -> str:
    """Return the legend of the known-quality colours."""
    entries = "".join(f'<li><i class="swatch q{i}"></i>{level}</li>' for i, level in enumerate(LEVELS))
    return f'<ul class="legend"><li>known quality</li>{entries}</ul>'


def strip(run: Run, title: str, rows: pd.DataFrame, method: str) -> str:
    """Return a row of faces with their scores."""
    faces = "".join(_face(run, row, method) for row in rows.to_dict("records"))
    four = " four" if len(rows) <= NUM_WRONG else ""
    return f'<div class="strip"><h4>{escape(title)}</h4><ul class="faces{four}">{faces}</ul></div>'


def _face(run: Run, row: dict[str, object], method: str) -> str:
    jpeg = run.faces.get((str(row["set"]), int(str(row["row"]))))
    if jpeg is None:
        return "<li><span>image could not be read again</span></li>"
    known = ""
    if pd.notna(row["known_quality"]):
        known = f'<span class="known"><i class="q{int(float(str(row["level"])))}"></i>{row["known_quality"]:.2f}</span>'
    source = "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
    title = escape(f"{row['set']} {row['image']}")
    return (
        f'<li title="{title}"><img src="{source}" alt="{title}" width="112" height="112">'
        f"<span>{escape(f'{row[method]:#.4g}')}</span>{known}</li>"
    )


def origin(run: Run) -> str:
    """Return a note on the source of the numbers."""
    details = run.details
    facts = {
        "run": run.name, "data set": details["dataset"], "weights, SHA-256": details["weights_sha256"],
        "bands resampled over": run.resampled_over, **{key: str(value) for key, value in details["switches"].items()},
    }  # fmt: skip
    entries = "".join(f"<dt>{escape(key)}</dt><dd><code>{escape(value)}</code></dd>" for key, value in facts.items())
    return (
        "<section>\n<h2>Where the numbers come from</h2>\n"
        f'<details><summary>{escape(run.source)}</summary><dl class="made">{entries}</dl></details>\n'
        "</section>"
    )
