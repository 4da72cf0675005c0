"""Provenance of each number: runs and their weights, every seed's value, options of the suites, parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from stages.reporting import wording
from stages.reporting.comparison import Comparison, Line


def anchor(comparison: Comparison, line: Line) -> str:
    """Return the anchor of a row; a link to it opens the details around it."""
    return f"made-{comparison.name}-{line.key}"


@dataclass(frozen=True)
class Made:
    """What one row's numbers were made of."""

    label: str
    anchor: str
    runs: str  # entries: run, seed and weights of each, with the place for what is recorded of it
    by_seed: str  # a table, or nothing
    settings: Mapping[str, Mapping[str, str]]  # by heading: the switches of each suite, and the parameters


def section(comparisons: Sequence[Comparison]) -> str:
    """Return one entry a row, one of what all rows of a table have in common, and the metrics behind the columns."""
    several = len(comparisons) > 1
    parts = [part for comparison in comparisons for part in _table(comparison, several)]
    return "<section>\n<h2>Where the numbers come from</h2>\n" + "\n".join(parts) + "\n</section>" if parts else ""


def rows(made: Sequence[Made]) -> Iterator[str]:
    """Yield what the rows share, and then of each row what is its own."""
    shared = common([one.settings for one in made])
    if shared:
        yield f"<details><summary>All rows</summary>{_settings(shared)}</details>"
    for one in made:
        own = {
            heading: {name: value for name, value in said.items() if shared.get(heading, {}).get(name) != value}
            for heading, said in one.settings.items()
        }
        yield (
            f'<details><summary>{escape(one.label)}</summary><dl class="made" id="{one.anchor}">{one.runs}</dl>'
            f"{one.by_seed}{_settings(own)}</details>"
        )


def common(settings: Sequence[Mapping[str, Mapping[str, str]]]) -> dict[str, dict[str, str]]:
    """Return the settings that all rows have, if there are several rows.

    >>> common([{"Training": {"epochs": "6", "seed": "0"}}, {"Training": {"epochs": "6", "seed": "1"}}])
    {'Training': {'epochs': '6'}}
    """
    if len(settings) < 2:
        return {}
    first, *others = settings
    shared = {
        heading: {
            name: value
            for name, value in said.items()
            if all(one.get(heading, {}).get(name) == value for one in others)
        }
        for heading, said in first.items()
    }
    return {heading: said for heading, said in shared.items() if said}


def _settings(settings: Mapping[str, Mapping[str, str]]) -> str:
    some = ((heading, said) for heading, said in settings.items() if said)
    return "".join(f'<h4>{escape(heading)}</h4><dl class="made">{_entries(said)}</dl>' for heading, said in some)


def _table(comparison: Comparison, several: bool) -> Iterator[str]:
    if several:
        yield f"<h3>{escape(comparison.table.title)}</h3>"
    yield from rows([_made(comparison, line) for line in comparison.runs])
    metrics = _entries((column.name, column.metric) for column in comparison.table.columns)
    yield f'<details><summary>Columns</summary><dl class="made">{metrics}</dl></details>'


def _made(comparison: Comparison, line: Line) -> Made:
    first = line.gathered
    assert first is not None
    runs = "".join(
        _entries([("run", run.run), ("seed", seed), ("weights, SHA-256", run.weights_sha256)]) + marker(run.run)
        for seed, run in line.by_seed.items()
    )
    parameters = {name: value for name, value in first.parameters.items() if len(line.seeds) == 1 or name != "seed"}
    settings = {
        f"Suite {suite}": said
        for suite, said in first.switches.items()
        if said and any(column.suite in (suite, "averages") for column in comparison.table.columns)
    }
    texts = {
        heading: {name: str(value) for name, value in said.items()}
        for heading, said in {**settings, "Training": parameters}.items()
    }
    return Made(line.label, anchor(comparison, line), runs, _each_seed(comparison, line), texts)


def marker(run: str) -> str:
    """Return a placeholder for what DVC and git know of a run, filled in by pipeline/tables/provenance.py."""
    return f"<!-- recorded {run} -->"


def _each_seed(comparison: Comparison, line: Line) -> str:
    """Return every seed's value in every column, for a row with several seeds."""
    if len(line.seeds) < 2:
        return ""
    heads = "".join(f'<th scope="col">{escape(column.name)}</th>' for column in comparison.table.columns)
    rows = "".join(
        f'<tr><th scope="row">seed {seed}</th>'
        + "".join(
            f"<td>{wording.number(cell.by_seed.get(seed), column.decimals)}</td>"
            for cell, column in zip(line.cells, comparison.table.columns, strict=True)
        )
        + "</tr>"
        for seed in line.seeds
    )
    return (
        f'<div class="scroll"><table class="seeds"><thead><tr><th scope="col"></th>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _entries(facts: Any) -> str:
    pairs = facts.items() if isinstance(facts, Mapping) else facts
    return "".join(f"<dt>{escape(str(key))}</dt><dd>{escape(str(value))}</dd>" for key, value in pairs)
