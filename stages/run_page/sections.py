"""Sections of a run's page: head, results by suite, configuration, environment, how to reproduce it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from stages.quality_pages.parts import number, table
from stages.reporting import provenance
from stages.run_page.reading import RunResults

_TITLES = {"hq": "Verification", "ijb": "IJB", "lq": "Low quality", "fiqa": "Quality scores"}


def head(run: RunResults, synthetic: bool) -> str:
    """Return what was trained, in tiles, and the caveat where the faces are synthetic."""
    train, section = run.metrics["train"], run.sections["train"]
    facts = {
        "head": section["head"]["name"],
        "backbone": section["backbone"]["name"],
        "identities": f"{train['classes']:,}".replace(",", " "),
        "images": f"{train['images']:,}".replace(",", " "),
        "epochs": train["epochs"],
        "seed": section["seed"],
        "training accuracy": percent(train["accuracy"]),
    }
    if "avg" in run.metrics.get("hq", {}):
        facts["mean of the five HQ sets"] = percent(run.metrics["hq"]["avg"])
    tiles = "".join(f"<div><dt>{escape(key)}</dt><dd>{escape(str(value))}</dd></div>" for key, value in facts.items())
    caveat = (
        '\n<ul class="caveats"><li>Synthetic faces: absolute values say nothing about photographs.</li></ul>'
        if synthetic else ""
    )  # fmt: skip
    return (
        f'<header>\n<p class="eyebrow">facet · run</p>\n<h1>{escape(run.name)}</h1>\n'
        f'<p class="verdict">{escape(_settings(section["head"]))}, trained on {escape(run.dataset)}.</p>\n'
        f'<dl class="facts">{tiles}</dl>\n</header>{caveat}'
    )


def _settings(section: Mapping[str, Any]) -> str:
    fields = ", ".join(f"{key} {value}" for key, value in section.items() if key != "name" and value is not None)
    return f"Head {section['name']}{f' ({fields})' if fields else ''}"


def percent(value: float) -> str:
    """Return a fraction as a rendered percentage.

    >>> percent(0.8125)
    '81.25 %'
    """
    return f"{100 * value:.2f} %"


def results(run: RunResults) -> Iterator[str]:
    """Yield a section per suite that was measured; of one that was not, why."""
    for suite in ("hq", "ijb", "lq"):
        if suite in run.details:
            body = _unmeasured(run, suite) or (verification(run) if suite == "hq" else _metrics(run, suite))
            where = f'<p class="key">Test sets of {escape(run.measured_on(suite))}; rates in %.</p>'
            yield f"<section>\n<h2>{_TITLES[suite]}</h2>\n{where}\n{body}\n{options(run, suite)}\n</section>"


def _unmeasured(run: RunResults, suite: str) -> str:
    reason = run.details[suite].get("not_measured")
    return f'<p class="key">Not measured: {escape(str(reason))}.</p>' if reason else ""


def verification(run: RunResults) -> str:
    """Return accuracy over folds and TAR at three FARs of each verification set."""
    fars = ("1e-01", "1e-02", "1e-03")
    heads = ["", "accuracy", "± over folds", "pairs", *(f"TAR at FAR {far}" for far in fars), "failed images"]
    rows = []
    for name, one in run.sets("hq").items():
        cells = [percent(one["accuracy"])[:-2], percent(one["accuracy_std"])[:-2], str(one["pairs"])]
        cells += [_tar(one.get("tar_at_far", {}).get(far, {})) for far in fars]
        rows.append((escape(name), [f"<td>{cell}</td>" for cell in (*cells, str(one["failed"]))]))
    if "avg" in run.metrics.get("hq", {}):
        mean = percent(run.metrics["hq"]["avg"])[:-2]
        rows.append(("mean of the five", [f"<td><b>{mean}</b></td>", *["<td></td>"] * (len(heads) - 2)]))
    return table("Verification", heads, rows)


def _tar(found: Mapping[str, Any]) -> str:
    if not found or found.get("nearest") is None:
        return f'<em title="{escape(str(found.get("reason", "")))}">unresolved</em>'
    return percent(found["nearest"]["tar"])[:-2]


def _metrics(run: RunResults, suite: str) -> str:
    """Return each metric of a suite with its value."""
    found = {key: value for key, value in run.metrics.get(suite, {}).items() if isinstance(value, int | float)}
    rows = [(escape(key), [f"<td>{100 * value:.2f}</td>"]) for key, value in found.items()]
    reasons = dict(_reasons(run.details[suite].get("sets", {})))
    below = f"<details><summary>What could not be read</summary>{entries(reasons)}</details>" if reasons else ""
    half = (len(rows) + 1) // 2
    parts = [part for part in (rows[:half], rows[half:]) if part]
    columns = "".join(f"<div>{table(f'metrics of {suite}', ['', '%'], part, 'plain metrics')}</div>" for part in parts)
    return f'<div class="blocks">{columns}</div>{below}'


def _reasons(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Yield why numbers are missing, by their place in the details."""
    if isinstance(tree.get("reason"), str):
        yield above, tree["reason"]
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _reasons(value, f"{above} {key}".strip())


def options(run: RunResults, suite: str) -> str:
    """Return the options of a suite behind a fold: every number carries them."""
    details = run.details[suite]
    facts = {f"protocol {name}": version for name, version in details.get("protocol", {}).items()}
    facts |= {key: value for key, value in details.get("switches", {}).items() if value not in (None, [], "")}
    return f"<details><summary>Options</summary>{entries(facts)}</details>"


def entries(facts: Mapping[str, Any]) -> str:
    """Return facts as a list of definitions."""
    return '<dl class="made">' + "".join(
        f"<dt>{escape(str(key))}</dt><dd>{escape(str(value))}</dd>" for key, value in facts.items()
    ) + "</dl>"  # fmt: skip


def quality(run: RunResults, has_pages: bool) -> str:
    """Return the correlations and areas of quality scores, with the way to the full pages."""
    if "fiqa" not in run.details:
        return ""
    if missing := _unmeasured(run, "fiqa"):
        return f"<section>\n<h2>Quality scores</h2>\n{missing}\n</section>"
    sets = run.sets("fiqa")
    methods = list(dict.fromkeys(method for one in sets.values() for method in one["methods"]))
    rows = [
        (escape(method), [f"<td>{_rho(one['methods'].get(method, {}))}</td>" for one in sets.values()])
        for method in methods
    ]
    pages = (
        '<a href="../quality_pages/index.html">Pages of the quality methods</a>'
        if has_pages
        else f"<code>facet quality-pages {escape(run.name)}</code> draws a page for each method"
    )
    shown = table("Spearman", ["Spearman ρ with known quality", *map(escape, sets)], rows)
    return (
        f'<section>\n<h2>Quality scores</h2>\n{shown}\n<p class="key">A dash: the images’ quality is not known. '
        f"{pages}: discard curves with bands, worst and best images.</p>\n{options(run, 'fiqa')}\n</section>"
    )


def _rho(found: Mapping[str, Any]) -> str:
    return number(found.get("spearman", {}).get("rho"), 2)


def configuration(run: RunResults) -> str:
    """Return every field of the resolved run."""
    shown = "".join(
        f"<details{' open' if name == 'train' else ''}><summary>{escape(name)}</summary>"
        f"{entries(dict(_leaves(section)))}</details>"
        for name, section in run.sections.items()
    )
    return (
        '<section>\n<h2>Configuration</h2>\n<p class="key">After all layers of parameters are merged: '
        f"resolved/runs/{escape(run.name)}.yaml.</p>\n{shown}\n</section>"
    )


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield fields by dotted names, with values as JSON has them."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", json.dumps(value) if value is None or isinstance(value, bool | list) else value


def environment(run: RunResults) -> str:
    """Return what the training was computed with."""
    known = {key: value for key, value in run.environment.items() if value is not None}
    if not known:
        return '<section>\n<h2>Environment</h2>\n<p class="key">Not recorded.</p>\n</section>'
    return f"<section>\n<h2>Environment of the training</h2>\n{entries(known)}\n</section>"


def reproduce(run: RunResults) -> str:
    """Return the commands that make this run again, and its provenance."""
    name = escape(run.name)
    commands = f"git checkout COMMIT          # below: recorded at commit\nmake install\nfacet run {name}"
    weights = entries({"weights, SHA-256": run.metrics["train"]["weights_sha256"]})
    recorded = f'<dl class="made">{provenance.marker(run.name)}</dl>' if _markable(run.name) else ""
    return (
        f"<section>\n<h2>How to reproduce</h2>\n<pre>{commands}</pre>\n"
        '<p class="key">The same seed gives the same weights bit for bit on CPUs of one kind. <code>dvc pull</code> '
        f"gets data and models where a DVC remote has them.</p>\n{recorded}{weights}\n</section>"
    )


def _markable(name: str) -> bool:
    return re.fullmatch(r"[a-z][a-z0-9_]*", name) is not None
