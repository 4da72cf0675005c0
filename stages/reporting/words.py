"""What a table says in words, alike in every format: numbers, agreement, and what limits them."""

from __future__ import annotations

from stages.reporting.comparison import NOT_MEASURABLE, NOT_MEASURED, Agreement, Comparison


def number(value: float | None, decimals: int, signed: bool = False) -> str:
    """Return a value as it is shown: None is empty, a minus is a true minus, a difference carries its sign.

    >>> number(87.3, 2), number(-6.951, 2, signed=True), number(None, 2)
    ('87.30', '−6.95', '')
    """
    return "" if value is None else f"{value:{'+' if signed else ''}.{decimals}f}".replace("-", "−")


def agreement(found: Agreement) -> str:
    """Return tau as a person reads it, or that there is nothing to compare."""
    return "not comparable" if found.tau is None else number(found.tau, 2, signed=True)


def verdict(comparison: Comparison) -> str:
    """Return what the table shows about the published order, and how much that is worth."""
    overall = comparison.overall
    comparable = [column for column in comparison.columns if column.tau is not None]
    if overall.tau is None:
        return "Not comparable: in no column were two rows both measured and published."
    ordered = overall.pairs.concordant + overall.pairs.discordant
    columns = "one column" if len(comparable) == 1 else f"{len(comparable)} columns"
    said = (
        f"Kendall's τ {number(overall.tau, 2, signed=True)}: "
        f"{overall.pairs.concordant} of {ordered} pairs of rows, in {columns}, stand in the published order."
    )
    if len(comparable) == 1 and comparable[0].chance is not None:
        share, rows = comparable[0].chance, comparable[0].rows
        said += f" Of all orders of {rows} rows, {share:.0%} agree at least as well."
    return said


def caveats(comparison: Comparison) -> list[str]:
    """Return what a reader must know before believing a number, one paragraph each."""
    said = []
    if comparison.scale.profile != "paper":
        said.append(
            f"Profile {comparison.scale.profile}: at this scale absolute values, and differences from "
            "published ones, mean nothing. The order of the rows is the claim under test."
        )
    if len(comparison.seeds) <= 1:
        seed = f" ({comparison.seeds[0]})" if comparison.seeds else ""
        said.append(
            f"One seed{seed}: the spread over seeds is unknown; "
            "rows that stand close together may change places."
        )
    said.extend(_unmeasured(comparison))
    if published_only := [line.label for line in comparison.lines if line.run is None]:
        said.append(f"Published only, no run of ours: {', '.join(published_only)}.")
    return said


def units(comparison: Comparison) -> str:
    """Return in which unit the columns are."""
    fractions = [column.name for column in comparison.table.columns if column.unit == "fraction"]
    if not fractions:
        return "Values are percent."
    return f"Values are percent; fractions: {', '.join(fractions)}."


def _unmeasured(comparison: Comparison) -> list[str]:
    """Return one sentence for each column with holes, with the reason."""
    said = []
    for index, column in enumerate(comparison.table.columns):
        for missing in (NOT_MEASURABLE, NOT_MEASURED):
            lines = [line for line in comparison.lines if line.cells[index].missing == missing]
            if not lines:
                continue
            every = len(lines) == len(comparison.runs)
            labels = "" if every else f" ({', '.join(line.label for line in lines)})"
            reasons = dict.fromkeys(line.cells[index].reason for line in lines)
            said.append(": ".join([column.name + labels, missing, *filter(None, reasons)]) + ".")
    return said
