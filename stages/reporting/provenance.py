"""What each number was made of: runs and their weights, every seed's value, switches of the suites, parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from stages.reporting import words
from stages.reporting.comparison import Comparison, Line


def anchor(comparison: Comparison, line: Line) -> str:
    """Return the name of a row's place; a link to it opens the details around it."""
    return f"made-{comparison.name}-{line.key}"


def section(comparisons: Sequence[Comparison]) -> str:
    """Return one entry a row, and the metrics behind the columns."""
    several = len(comparisons) > 1
    parts = [part for comparison in comparisons for part in _table(comparison, several)]
    return "<section>\n<h2>Where the numbers come from</h2>\n" + "\n".join(parts) + "\n</section>"


def _table(comparison: Comparison, several: bool) -> Iterator[str]:
    if several:
        yield f"<h3>{escape(comparison.table.title)}</h3>"
    for line in comparison.runs:
        yield _row(comparison, line)
    metrics = _entries((column.name, column.metric) for column in comparison.table.columns)
    yield f'<details><summary>Columns</summary><dl class="made">{metrics}</dl></details>'


def _row(comparison: Comparison, line: Line) -> str:
    first = line.gathered
    assert first is not None
    runs = "".join(
        _entries([("run", run.run), ("seed", seed), ("weights, SHA-256", run.weights_sha256)]) + marker(run.run)
        for seed, run in line.by_seed.items()
    )
    parameters = {name: value for name, value in first.parameters.items() if len(line.seeds) == 1 or name != "seed"}
    switches = "".join(
        f'<h4>Suite {escape(suite)}</h4><dl class="made">{_entries(said.items())}</dl>'
        for suite, said in first.switches.items()
        if said and any(column.suite in (suite, "averages") for column in comparison.table.columns)
    )
    return (
        f"<details><summary>{escape(line.label)}</summary>"
        f'<dl class="made" id="{anchor(comparison, line)}">{runs}</dl>{_each_seed(comparison, line)}{switches}'
        f'<h4>Training</h4><dl class="made">{_entries(parameters.items())}</dl></details>'
    )


def marker(run: str) -> str:
    """Return the place where a program that knows what DVC and git have of a run may say so: pipeline/provenance.py."""
    return f"<!-- recorded {run} -->"


def _each_seed(comparison: Comparison, line: Line) -> str:
    """Return every seed's value in every column, of a row that has several."""
    if len(line.seeds) < 2:
        return ""
    heads = "".join(f'<th scope="col">{escape(column.name)}</th>' for column in comparison.table.columns)
    rows = "".join(
        f'<tr><th scope="row">seed {seed}</th>'
        + "".join(
            f"<td>{words.number(cell.by_seed.get(seed), column.decimals)}</td>"
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
    return "".join(f"<dt>{escape(str(key))}</dt><dd><code>{escape(str(value))}</code></dd>" for key, value in pairs)
