"""All tables as one HTML page: what each shows, and how far it agrees; values and plots have their own pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from stages.reporting import page, plots, provenance, wording
from stages.reporting.comparison import Comparison
from stages.reporting.side_by_side import Beside, sentence

TITLE = "Tables: measured beside published"


def html(
    comparisons: Sequence[Comparison],
    besides: Mapping[str, Beside],
    pages: Sequence[str] = (),
    unfinished: Mapping[str, str] | None = None,
) -> str:
    """Return the page.

    Args:
        comparisons: the tables, in order.
        besides: those that a second profile measured too, by name.
        pages: names of tables that have a page NAME.html in the same folder.
        unfinished: why other tables are not there, by name.
    """
    tables = [_table(one, besides.get(one.name), one.name in pages) for one in comparisons]
    head = [_head(comparisons, unfinished or {}), _overview(comparisons, besides)]
    alone = provenance.section([one for one in comparisons if one.name not in pages])
    return page.document(TITLE, [*head, *tables, alone])


def _head(comparisons: Sequence[Comparison], unfinished: Mapping[str, str]) -> str:
    profiles = sorted({comparison.scale.profile for comparison in comparisons})
    runs = {run.run for one in comparisons for line in one.lines for run in line.by_seed.values()}
    seeds = sorted({seed for comparison in comparisons for seed in comparison.seeds})
    facts = {
        "tables": len(comparisons),
        "training runs": len(runs),
        "seeds": ", ".join(map(str, seeds)),
        "profile": ", ".join(profiles),
    }
    tiles = "".join(f"<div><dt>{name}</dt><dd>{escape(str(value))}</dd></div>" for name, value in facts.items())
    said = [f"<li>{escape(wording.SCALE.format(profile=name))}</li>" for name in profiles if name != "paper"]
    said += [f"<li>Not finished: {escape(name)}. {escape(reason)}</li>" for name, reason in unfinished.items()]
    caveats = f'<ul class="caveats">{"".join(said)}</ul>' if said else ""
    return (
        f'<header>\n<p class="eyebrow">facet · report</p>\n<h1>{TITLE}</h1>\n'
        f'<dl class="facts">{tiles}</dl>\n</header>\n{caveats}'
    )


def _overview(comparisons: Sequence[Comparison], besides: Mapping[str, Beside]) -> str:
    """Return the list of tables with the agreement of each."""
    heads = ["τ", "seed bootstrap", "single seeds", "pairs as published", "separated by seeds", "orders in words"]
    heads += ["rows measured", "seeds"]
    others = next(iter(besides.values())).other.scale.profile if besides else ""
    heads += [f"τ {others}"] if others else []
    rows = []
    for comparison in comparisons:
        title = f'<a href="#{_anchor(comparison)}">{escape(comparison.table.title)}</a>'
        cells = [*overview(comparison), *([_other_tau(besides.get(comparison.name))] if others else [])]
        shown = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        rows.append(f'<tr><th scope="row">{title}<small>{escape(comparison.name)}</small></th>{shown}</tr>')
    columns = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
    return (
        '<section>\n<h2>Agreement</h2>\n<div class="scroll" tabindex="0" role="region" aria-label="agreement">'
        f'<table class="overview"><thead><tr><th scope="col"></th>{columns}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>\n"
        f'<p class="key">{escape(wording.AGREEMENT)}</p>\n</section>'
    )


def overview(comparison: Comparison) -> list[str]:
    """Return a table's line of the overview, as text."""
    overall = comparison.overall
    pairs, told = overall.pairs, overall.resolved
    return [
        wording.agreement(overall) if overall.tau is not None else "",
        wording.interval(overall),
        ", ".join(wording.number(tau, 2, signed=True) for tau in overall.seed_taus),
        f"{pairs.concordant} of {pairs.concordant + pairs.discordant}" if overall.tau is not None else "",
        f"{told.concordant} of {told.concordant + told.discordant}" if told else "",
        wording.claims_held(comparison) if comparison.claims else "",
        f"{len(comparison.runs)} of {len(comparison.lines)}",
        wording.seeds(comparison),
    ]


def _other_tau(beside: Beside | None) -> str:
    found = None if beside is None else beside.other.overall
    return "" if found is None or found.tau is None else f"{wording.agreement(found)} {wording.interval(found)}".strip()


def _anchor(comparison: Comparison) -> str:
    return f"table-{comparison.name}"


def _table(comparison: Comparison, beside: Beside | None, has_page: bool) -> str:
    table = comparison.table
    says = "The table with every value, all plots, and where the numbers come from"
    link = f'<a href="{comparison.name}.html">{says}</a>'
    more = f'<p class="key">{link}</p>' if has_page else ""
    order = (page.figures(comparison, plot) for plot in plots.plots(comparison, ("order",)))
    parts = [
        f'<p class="eyebrow">table {escape(comparison.name)}</p><h1 class="of-table">{escape(table.title)}</h1>',
        page.paragraph("lede", table.note),
        page.finding(comparison),
        f'<p class="verdict">{escape(wording.verdict(comparison))}</p>{more}',
        "" if has_page else page.measured(comparison),
        page.claims(comparison),
        page.elsewhere(comparison),
        "" if has_page else "".join(order),
        "" if beside is None else witnesses(beside),
    ]
    return f'<article id="{_anchor(comparison)}">\n' + "\n".join(part for part in parts if part) + "\n</article>"


def witnesses(beside: Beside) -> str:
    """Return the ranks of rows as published, on synthetic data and on real faces, and the agreement of each pair."""
    comparison = beside.comparison
    columns = comparison.table.columns
    names = [witness.name for witness in beside.witnesses]
    heads = "".join(f'<th scope="col">{escape(column.name)}</th>' for column in columns)
    ranks = [beside.ranks(index) for index in range(len(columns))]
    rows = []
    for place, line in enumerate(comparison.lines):
        cells = "".join(f"<td>{' · '.join(_rank(one) for one in column[place])}</td>" for column in ranks)
        rows.append(f'<tr><th scope="row">{escape(line.label)}</th>{cells}</tr>')
    taus = "".join(
        f'<tr><th scope="row">τ {escape(pairing.left)}, {escape(pairing.right)}</th>'
        + "".join(f"<td>{wording.number(tau, 2, signed=True)}</td>" for tau in pairing.columns)
        + "</tr>"
        for pairing in beside.pairings
    )
    said = "".join(f"<li>{escape(sentence(pairing))}</li>" for pairing in beside.pairings)
    return (
        f"<section>\n<h2>{escape(', '.join(names))}: side by side</h2>\n"
        f'<p class="key">Rank of each row: {escape(" · ".join(names))}; 1 is the best.</p>\n'
        f'<div class="scroll"><table><thead><tr><th scope="col"></th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody><tfoot>{taus}</tfoot></table></div>\n<ul>{said}</ul>{_claims(beside)}</section>"
    )


def _rank(rank: float | None) -> str:
    return "–" if rank is None else f"{rank:g}"


def _claims(beside: Beside) -> str:
    pairs = zip(beside.comparison.claims, beside.other.claims, strict=True)
    profiles = [side.scale.profile for side in (beside.comparison, beside.other)]
    items = "".join(
        f"<li>{escape(f'{left.claim.text}: {profiles[0]} {left.verdict}, {profiles[1]} {right.verdict}')}</li>"
        for left, right in pairs
    )
    return f"<h4>Orders in words</h4><ul>{items}</ul>" if items else ""
