"""Text of a table, the same in every format: numbers, agreement, and limits."""

from __future__ import annotations

from collections.abc import Sequence

from stages.core.metrics import agreement_spread
from stages.core.metrics.missing import NOT_MEASURABLE, NOT_MEASURED
from stages.reporting.claims import Checked
from stages.reporting.comparison import Cell, Comparison, Line
from stages.reporting.rank_agreement import Agreement

NOT_COMPARABLE = "not comparable"
NOT_COMPARED = "not compared"
_FEW = 3  # comparisons that a claim fails in, named
SCALE = (
    "Scale {profile}: absolute values, and differences from published ones, are not meaningful at this scale. "
    "Only the order of the rows is tested."
)
AGREEMENT = (
    "τ is Kendall's tau-b between published and measured order, 1 for the same and −1 for the reverse, over all pairs "
    "of rows in all columns that have both; for several seeds, of their means. Seed bootstrap: where τ lies in "
    f"{agreement_spread.SHARE:.0%} of bootstrap draws of the seeds, each row independently; it does "
    "not cover other test images. Separated: pairs where every seed of one row is above every seed of the other, and "
    "how many of these stand as published; two equal rows of three seeds are separated by chance in one case of ten."
)


def number(value: float | None, decimals: int, signed: bool = False) -> str:
    """Return a value as text: None is empty, a minus is a true minus, a difference has its sign.

    >>> number(87.3, 2), number(-6.951, 2, signed=True), number(None, 2)
    ('87.30', '−6.95', '')
    """
    return "" if value is None else f"{value:{'+' if signed else ''}.{decimals}f}".replace("-", "−")


def agreement(found: Agreement) -> str:
    """Return tau as text, or that there is nothing to compare."""
    return NOT_COMPARABLE if found.tau is None else number(found.tau, 2, signed=True)


def measured(cell: Cell, decimals: int) -> str:
    """Return a measured value with its standard deviation over seeds, or the reason if there is none.

    >>> measured(Cell(87.3, std=0.5), 2), measured(Cell(87.3), 2), measured(Cell(missing="not measured"), 2)
    ('87.30 ± 0.50', '87.30', 'not measured')
    """
    if cell.missing:
        return cell.missing
    return number(cell.measured, decimals) + spread(cell, decimals)


def spread(cell: Cell, decimals: int) -> str:
    """Return the standard deviation over seeds with its sign, or nothing."""
    return "" if cell.std is None else f" ± {number(cell.std, decimals)}"


def difference(cell: Cell, decimals: int) -> str:
    """Return measured minus published with its sign, that they are not compared, or nothing.

    >>> difference(Cell(87.0, 90.0), 1), difference(Cell(87.0, 90.0, apart="another set"), 1), difference(Cell(87.0), 1)
    ('−3.0', 'not compared', '')
    """
    return NOT_COMPARED if cell.apart else number(cell.difference, decimals, signed=True)


def interval(found: Agreement) -> str:
    """Return the interval of tau over seeds as text, or nothing.

    >>> from stages.core.metrics.agreement import Pairs
    >>> interval(Agreement(Pairs(), 0, interval=agreement_spread.Interval(-0.2, 1)))
    '[−0.20, +1.00]'
    """
    if found.interval is None:
        return ""
    low, high = found.interval.low, found.interval.high
    return f"[{number(low, 2, signed=True)}, {number(high, 2, signed=True)}]"


def verdict(comparison: Comparison) -> str:
    """Return what the table shows about the published order, and how reliable that is."""
    overall = comparison.overall
    comparable = [column for column in comparison.columns if column.tau is not None]
    if overall.tau is None:
        said = "Not comparable: in no column were two rows both measured and published."
        if any(cell.apart for line in comparison.lines for cell in line.cells):
            said = "Not comparable: in no column were two rows measured on the published test set."
        return " ".join([said, *_claims(comparison)])
    ordered = overall.pairs.concordant + overall.pairs.discordant
    columns = "one column" if len(comparable) == 1 else f"{len(comparable)} columns"
    said = (
        f"Kendall's τ {number(overall.tau, 2, signed=True)}: "
        f"{overall.pairs.concordant} of {ordered} pairs of rows, in {columns}, are in the published order."
    )
    if len(comparable) == 1 and comparable[0].chance is not None:
        share, rows = comparable[0].chance, comparable[0].rows
        said += f" Of all possible orders of {rows} rows, {share:.0%} agree at least as well."
    return " ".join([said, *_over_seeds(overall), *_claims(comparison)])


def _over_seeds(overall: Agreement) -> list[str]:
    """Return the agreement over seeds, in words."""
    if overall.interval is None:
        return []
    said = []
    if overall.seed_taus:
        taus = ", ".join(number(tau, 2, signed=True) for tau in overall.seed_taus)
        mean = number(sum(overall.seed_taus) / len(overall.seed_taus), 2, signed=True)
        said.append(f"Each seed alone gives τ {taus}, mean {mean}.")
    said.append(f"The seed bootstrap gives {interval(overall)} in {agreement_spread.SHARE:.0%} of draws.")
    if overall.resolved is not None:
        told = overall.resolved.concordant + overall.resolved.discordant
        pairs = told + overall.resolved.tied_right
        left = pairs - told
        said.append(
            f"The seeds separate {told} of {pairs} published pairs, {overall.resolved.concordant} of them in the "
            f"published order{f'; {left} are not separated' if left else ''}."
        )
    return said


def claims_held(comparison: Comparison) -> str:
    """Return how many stated orders hold in every seed, of those that could be checked: ``2 of 3``."""
    verdicts = [one.verdict for one in comparison.claims if one.verdict != "not checked"]
    more = f", {verdicts.count('on average')} more on average" if "on average" in verdicts else ""
    return f"{verdicts.count('holds')} of {len(verdicts)}{more}"


def _claims(comparison: Comparison) -> list[str]:
    if all(one.verdict == "not checked" for one in comparison.claims):
        return []
    every = " in every seed" if len(comparison.seeds) > 1 else ""
    return [f"Orders stated in words that hold{every}: {claims_held(comparison)}."]


def claim(checked: Checked) -> str:
    """Return the result of checking a claim."""
    if checked.unmeasured:
        return f"not checked, because not measured: {', '.join(checked.unmeasured)}"
    if checked.apart:
        return f"not checked, because {checked.apart}"
    said = f"holds in {checked.held} of {checked.seeds} {'seed' if checked.seeds == 1 else 'seeds'}"
    if checked.verdict == "on average":
        return f"{said}, and for the means"
    if not checked.failed:
        return said
    kept = checked.comparisons - len(checked.failed)
    means = "" if checked.seeds == 1 else " of means"
    named = "; ".join(checked.failed[:_FEW])
    more = f"; and {len(checked.failed) - _FEW} more" if len(checked.failed) > _FEW else ""
    return f"{said}; {kept} of {checked.comparisons} comparisons{means} hold, not {named}{more}"


def seeds(comparison: Comparison) -> str:
    """Return the number of seeds of a table's rows, in words."""
    counts = sorted({len(line.seeds) for line in comparison.runs}) or [1]
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def caveats(comparison: Comparison) -> list[str]:
    """Return the caveats of the numbers, one paragraph each."""
    said = []
    if comparison.scale.profile != "paper":
        said.append(SCALE.format(profile=comparison.scale.profile))
    said.append(_seeds(comparison))
    said.extend(_unmeasured(comparison))
    said.extend(not_compared(comparison))
    if published_only := [line.label for line in comparison.lines if line.gathered is None]:
        said.append(f"Published only, no run of ours: {', '.join(published_only).rstrip('.')}.")
    return said


def _seeds(comparison: Comparison) -> str:
    """Return a sentence on the spread, or that there is none."""
    every = ", ".join(map(str, comparison.seeds))
    if all(len(line.seeds) < 2 for line in comparison.lines):
        return (
            f"One seed{f' ({every})' if every else ''}: the spread over seeds is unknown; "
            "rows with similar values may change places."
        )
    said = (
        f"{seeds(comparison)} seeds ({every}): mean ± standard deviation of single training runs (divisor n − 1). "
        "Curves are those of the first seed."
    )
    if comparison.overall.interval:
        said += (
            " The interval of τ is a bootstrap over these seeds, separately for each row. "
            "Resampling adds noise, so it is low where rows are close; other test images would also change τ."
        )
    if single := [line.label for line in comparison.runs if len(line.seeds) == 1]:
        said += f" One seed only, which makes the interval too narrow: {', '.join(single)}."
    return said


def units(comparison: Comparison) -> str:
    """Return the unit of the columns; a number's own unit stands in its column's name."""
    names: dict[str, list[str]] = {"percent": [], "fraction": [], "number": []}
    for column in comparison.table.columns:
        names[column.unit].append(column.name)
    if names["percent"] or not names["fraction"]:
        others = (("fractions", names["fraction"]), ("as named", names["number"]))
        return "; ".join(["Values are percent", *(f"{what}: {', '.join(of)}" for what, of in others if of)]) + "."
    more = f"; as named: {', '.join(names['number'])}" if names["number"] else ""
    return f"Values are fractions{more}."


def _unmeasured(comparison: Comparison) -> list[str]:
    """Return a sentence on incomplete columns, one for those that lack the same rows for the same reason."""
    columns: dict[str, list[str]] = {}
    for index, column in enumerate(comparison.table.columns):
        for missing in (NOT_MEASURABLE, NOT_MEASURED):
            lines = [line for line in comparison.lines if line.cells[index].missing == missing]
            if not lines:
                continue
            labels = _labels(comparison, lines)
            reasons = dict.fromkeys(line.cells[index].reason for line in lines)
            columns.setdefault(": ".join([labels, missing, *filter(None, reasons)]), []).append(column.name)
    return [f"{', '.join(names)}{said}." for said, names in columns.items()]


def not_compared(comparison: Comparison) -> list[str]:
    """Return a sentence on values that are not compared with published ones, one for those with the same reason."""
    columns: dict[str, list[str]] = {}
    for index, column in enumerate(comparison.table.columns):
        for reason in dict.fromkeys(line.cells[index].apart for line in comparison.lines if line.cells[index].apart):
            lines = [line for line in comparison.lines if line.cells[index].apart == reason]
            said = f"{_labels(comparison, lines)}: {NOT_COMPARED} with the published number: {reason}."
            columns.setdefault(said, []).append(column.name)
    return [f"{', '.join(names)}{said}" for said, names in columns.items()]


def _labels(comparison: Comparison, lines: Sequence[Line]) -> str:
    """Return the labels of some rows in brackets; nothing if they are all that have a run."""
    return "" if len(lines) == len(comparison.runs) else f" ({', '.join(line.label for line in lines)})"
