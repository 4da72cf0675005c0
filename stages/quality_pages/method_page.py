"""HTML page of one quality method of one run; it needs no other files."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from stages.core.metrics.curve_bands import NUM_RESAMPLES
from stages.quality_pages import charts
from stages.quality_pages.parts import (
    NUM_FACES,
    NUM_WRONG,
    document,
    level_legend,
    navigation,
    number,
    origin,
    panels,
    strip,
    table,
)
from stages.quality_pages.reading import Run


def html(run: Run, method: str) -> str:
    """Return the page of one method."""
    parts = [_head(run, method), numbers(run, method), *_charts(run, method), *_networks(run, method)]
    return document(f"{method} · {run.name}", "\n".join([*parts, _sheets(run, method), origin(run)]))


def _head(run: Run, method: str) -> str:
    rho = [value for name in run.sets if (value := run.spearman(name, method)) is not None]
    spread = f"{number(min(rho), 2)} to {number(max(rho), 2)}" if rho else "not known"
    facts = [
        ("Spearman with known quality", spread),
        ("sets", str(len(run.sets))),
        ("images", f"{run.scores[method].notna().sum():,}".replace(",", " ")),
        ("run", run.name),
    ]
    tiles = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    return (
        f"{navigation(run, method)}\n<header>\n"
        f'<p class="eyebrow">facet · quality method · run {escape(run.name)}</p>\n<h1>{escape(method)}</h1>\n'
        f'<p class="lede">{escape(run.texts[method])}</p>\n<p class="verdict">{escape(verdict(run, method))}</p>\n'
        f'<dl class="facts">{tiles}</dl>\n</header>'
    )


def verdict(run: Run, method: str) -> str:
    """Return a summary of the numbers in a sentence or two."""
    sentences = []
    ranked = {name: rho for name in run.sets if (rho := run.spearman(name, method)) is not None}
    if ranked:
        best, worst = max(ranked, key=ranked.__getitem__), min(ranked, key=ranked.__getitem__)
        sentences.append(
            f"Rank correlation with the known quality is positive on {sum(rho > 0 for rho in ranked.values())} of "
            f"{len(ranked)} sets: {number(ranked[best], 2)} on {best}, {number(ranked[worst], 2)} on {worst}."
        )
    areas = [area for name in run.sets if (area := run.area(name, method, run.rates[0]))]
    if areas and method != "feature_norm":
        less = sum(area["less_low"] > 0 for area in areas)
        more = sum(area["less_high"] < 0 for area in areas)
        sentences.append(
            f"At FMR {float(run.rates[0]):g} its area under CR-FIQA’s curve is smaller than the feature norm’s on "
            f"{less or 'none'} of {len(areas)} sets and larger on {more or 'none'}, beyond chance (95 % interval of "
            f"the difference); on {len(areas) - less - more or 'none'} the set is too small to decide."
        )
    return " ".join(sentences)


def numbers(run: Run, method: str) -> str:
    """Return the table of a method's numbers on each set."""
    heads = ["set", "images", "pairs, genuine", "Spearman ρ, known quality"]
    for rate in run.rates:
        at = f"FMR {float(rate):g}"
        heads += [f"CR-FIQA area, {at} ↓", f"less than feature norm’s, {at}", f"ISO pAUC, {at} ↓"]
    rows = [(escape(name), list(_cells(run, name, method))) for name in run.sets]
    return (
        f"<section>\n<h2>Numbers</h2>\n{table('Numbers', heads, rows)}\n"
        '<p class="key">↓ lower is better. In brackets 95 % intervals: the people of a set are resampled '
        f"{NUM_RESAMPLES} times, an impostor pair counts as often as both people. CR-FIQA’s area runs over "
        f"discard 0 to 0.95; ISO’s to {run.details['switches']['pauc_limit']:g}, under it that of a perfect quality."
        "</p>\n</section>"
    )


def _cells(run: Run, name: str, method: str) -> Iterator[str]:
    details = run.details["sets"][name]
    failed = f"<small>{details['failed']} failed</small>" if details["failed"] else ""
    people = run.people(name)
    known = f"<small>{people} people</small>" if people else ""
    yield f"<td>{details['images']}{known}{failed}</td>"
    yield f"<td>{details['pairs']}<small>{details['genuine']} genuine</small></td>"
    yield f"<td>{number(run.spearman(name, method))}</td>"
    for rate in run.rates:
        found, area = run.measured(name, method, rate), run.area(name, method, rate)
        if found["edc_auc"] is None and found["iso_pauc"] is None:
            yield f'<td colspan="3"><em>unresolved: {escape(found["reason"])}</em></td>'
            continue
        low_high = f"<small>[{number(area['low'])}, {number(area['high'])}]</small>" if area else ""
        reason = f' title="{escape(found["reason"])}"' if "reason" in found else ""
        yield f"<td{reason}>{number(found['edc_auc'])}{low_high}</td>"
        if area and method != "feature_norm":
            sure = area["less_low"] > 0
            less = f"<b>{number(area['less'], signed=True)}</b>" if sure else number(area["less"], signed=True)
            between = f"[{number(area['less_low'], signed=True)}, {number(area['less_high'], signed=True)}]"
            yield f"<td>{less}<small>{between}</small></td>"
        else:
            yield "<td>–</td>"
        yield f"<td>{number(found['iso_pauc'])}<small>{number(found['iso_pauc_of_perfect_quality'])}</small></td>"


def _charts(run: Run, method: str) -> Iterator[str]:
    limits = charts.score_range(run.scores[method])
    ridges = [
        charts.histogram(run.of(name), method, name, limits, run.spearman(name, method)) for name in run.sets
    ]
    yield panels(
        "Scores at each known level",
        "One ridge for each fifth of the known quality, each as high as the share of its images; the line is their "
        "median. A good method moves the ridges to the right from bottom to top. Sets whose images’ "
        "quality is not known have one histogram.",
        level_legend(), ("", ridges),
    )  # fmt: skip
    yield panels(
        "Error versus discard",
        "FNMR among the remaining pairs when those of lowest quality are discarded: for CR-FIQA’s curve a share of "
        "all pairs, for ISO’s a share of the genuine ones. Bands: 95 %, people resampled; where no error is left, the "
        "exact binomial limit over the people left. Right of the vertical line too few impostor pairs are left to "
        "resolve the rate, and CR-FIQA’s threshold is coarser than it says.",
        _curve_legend(),
        *((f"FMR {float(rate):g}", [_discard(run, name, method, rate) for name in run.sets]) for rate in run.rates),
    )
    if method == "feature_norm" and run.scores[method].equals(run.scores["norm"].astype(float)):
        return
    norms = charts.score_range(run.scores["norm"])
    against = [charts.against_norm(run.of(name), method, name, limits, norms) for name in run.sets]
    yield panels(
        "Score against feature norm",
        "Hexagons grow with the number of images in them; their colour is the mean known quality. ρ is Spearman’s "
        "correlation of score and norm.",
        level_legend(), ("", against),
    )  # fmt: skip


def _discard(run: Run, name: str, method: str, rate: str) -> str:
    curves = {convention: run.curve(name, method, rate, convention) for convention in charts.CONVENTIONS}
    measured = run.measured(name, method, rate)
    if any(curve.empty for curve in curves.values()):
        return charts.unresolved(name, measured["reason"])
    every = [run.curve(name, other, rate, convention) for other in run.methods for convention in charts.CONVENTIONS]
    highest = max(float(curve[["fnmr", "high"]].max(axis=None)) for curve in every if not curve.empty)
    return charts.discard(curves, name, rate, min(1.02, 1.05 * highest), measured["fmr_resolved_until_discard"])


def _networks(run: Run, method: str) -> Iterator[str]:
    """Yield the areas by other networks' embeddings, if there are any."""
    if not run.networks:
        return
    networks = (run.name, *run.networks)
    heads = ["set", *(f"{escape(by)}, FMR {float(rate):g}" for rate in run.rates for by in networks)]
    rows: list[tuple[str, list[str]]] = []
    for name in run.sets:
        found = [
            run.measured(name, method, rate) if by == run.name else run.judged(name, method, rate, by)
            for rate in run.rates
            for by in networks
        ]
        rows.append((escape(name), [f"<td>{number(one['edc_auc'])}</td>" for one in found]))
    yield (
        '<section>\n<h2>Judged by other networks</h2>\n<p class="key">CR-FIQA area ↓ when the scores stay and the '
        "embeddings are another network’s: a score that only knows its own network’s weaknesses loses here. Areas of "
        f"different networks differ for other reasons, too: compare methods within a column.</p>\n"
        f"{table('Judged by other networks', heads, rows)}\n</section>"
    )


def _curve_legend() -> str:
    entries = [
        *((f"line l{i}", text) for i, text in enumerate(charts.CONVENTIONS.values())),
        ("line random", "pairs put aside at random"),
        ("line perfect", "perfect quality, ISO"),
        ("line resolved", "rate resolved up to here"),
    ]
    return '<ul class="legend">' + "".join(f'<li><i class="{look}"></i>{text}</li>' for look, text in entries) + "</ul>"


def _sheets(run: Run, method: str) -> str:
    parts = []
    for name in run.sets:
        rows = run.of(name)
        rows = rows[rows[method].notna()]
        rising = rows.sort_values(method, kind="stable")
        strips = [
            strip(run, "worst first", rising.head(NUM_FACES), method),
            strip(run, "best first", rows.sort_values(method, ascending=False, kind="stable").head(NUM_FACES), method),
        ]
        if run.has_truth(name):
            excess = rows[method].rank() - rows["known_quality"].rank()
            too_high, too_low = (
                rows.loc[(sign * excess).sort_values(kind="stable").index[:NUM_WRONG]] for sign in (-1, 1)
            )
            strips += [
                strip(run, "ranked furthest above their known quality", too_high, method),
                strip(run, "ranked furthest below it", too_low, method),
            ]
        parts.append(f'<h3>{escape(name)}</h3>\n<div class="strips">{"".join(strips)}</div>')
    return (
        "<section>\n<h2>Worst and best images</h2>\n"
        '<p class="key">Under each image its score, and its known quality where somebody knows it.</p>\n'
        + "\n".join(parts)
        + "\n</section>"
    )
