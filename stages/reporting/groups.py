"""Error rates by group of pairs (column `group` of a `pairs.csv`) as Markdown, HTML and data: of a row's first seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from stages.reporting import wording
from stages.reporting.comparison import Comparison

HEADS = ("", "group", "FNMR %", "95 % band", "genuine pairs", "FMR %", "95 % band", "impostor pairs")
TITLE = "Error rates by group"


def as_tree(comparison: Comparison) -> dict[str, dict[str, Any]]:
    """Return what each row measured by group: by set, then by the row's key."""
    found: dict[str, dict[str, Any]] = {}
    for line in comparison.lines:
        for name, tree in (line.gathered.groups if line.gathered else {}).items():
            found.setdefault(name, {})[line.key] = tree
    return found


def markdown(comparison: Comparison) -> str:
    """Return a table for each set with groups; nothing without."""
    parts = []
    for name, by_row in as_tree(comparison).items():
        lines = [list(HEADS), [":--", ":--", *["--:"] * (len(HEADS) - 2)], *_lines(comparison, by_row)]
        table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
        parts.append(f"{TITLE}: {name}\n\n{table}\n\n{caption(by_row)}")
    return "\n\n".join(parts)


def html(comparison: Comparison) -> str:
    """Return a section of the page for each set with groups; nothing without."""
    sections = []
    for name, by_row in as_tree(comparison).items():
        heads = "".join(f'<th scope="col">{escape(head)}</th>' for head in HEADS)
        rows = "\n".join(
            f'<tr><th scope="row">{escape(label)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>'
            for label, *cells in _lines(comparison, by_row)
        )
        sections.append(
            f"<section>\n<h2>{TITLE}: {escape(name)}</h2>\n"
            f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(name)}: {TITLE.lower()}">\n'
            f"<table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n</div>\n"
            f'<p class="key">{escape(caption(by_row))}</p>\n</section>'
        )
    return "\n".join(sections)


def caption(by_row: Mapping[str, Mapping[str, Any]]) -> str:
    """Return how the rates of a set were read, and over what their bands were resampled."""
    trees = list(by_row.values())
    targets = ", ".join(dict.fromkeys(f"{tree['fmr']:g}" for tree in trees))
    over = ", ".join(dict.fromkeys(tree["bands_resampled_over"] for tree in trees))
    alone = max(int(tree["pairs_in_no_group"]) for tree in trees)
    more = f" {alone:,} pairs are in no group; they count in all pairs alone." if alone else ""
    return (
        f"All groups of a row at one threshold, the lowest at which the FMR over all pairs is at most {targets}. "
        f"95 % bands by resampling {over}.{more}"
    )


def _lines(comparison: Comparison, by_row: Mapping[str, Mapping[str, Any]]) -> Iterator[Sequence[str]]:
    """Yield the cells of each row and group; the row's label in its first line only."""
    labels = {line.key: line.label for line in comparison.lines}
    for key, tree in by_row.items():
        for place, rate in enumerate(tree["rates"]):
            sides = [
                [*_rate(rate[kind]), f"{rate[pairs]:,}"] for kind, pairs in (("fnmr", "genuine"), ("fmr", "impostor"))
            ]
            yield [labels[key] if place == 0 else "", rate["group"], *sides[0], *sides[1]]


def _rate(rate: Mapping[str, float | None] | None) -> tuple[str, str]:
    """Return a rate in percent and its band; empty without pairs, or where too few resamples have some."""
    if rate is None or rate["value"] is None:
        return "", ""
    band = [wording.number(None if end is None else 100 * end, 2) for end in (rate["low"], rate["high"])]
    return wording.number(100 * rate["value"], 2), f"{band[0]} to {band[1]}" if all(band) else ""
