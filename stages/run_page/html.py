"""HTML page of a single run: one file that needs no other."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path

from stages.core.errors import InputError
from stages.quality_pages import parts, reading
from stages.reporting import page, plots
from stages.run_page import charts, head_figures, head_settings, sections
from stages.run_page.reading import RunResults
from stages.run_page.worst_pairs import Pair, WorstPairs

STYLE = Path(__file__).with_name("page.css")


def html(run: RunResults, worst: Mapping[str, WorstPairs], *, synthetic: bool, has_quality_pages: bool) -> str:
    """Return the page.

    Args:
        run: its results.
        worst: pairs to show, by set.
        synthetic: whether the faces are rendered, so that values mean nothing.
        has_quality_pages: whether `facet quality-pages` has drawn them.
    """
    body = [
        sections.head(run, synthetic),
        *sections.results(run),
        _worst(worst),
        sections.quality(run, has_quality_pages),
        _images(run),
        *_curves(run),
        _head_figure(run),
        sections.configuration(run),
        sections.environment(run),
        sections.reproduce(run),
    ]
    document = parts.document(f"Run {run.name}", "\n".join(part for part in body if part))
    return document.replace("</style>", STYLE.read_text(encoding="utf-8") + "</style>", 1)


def _curves(run: RunResults) -> Iterator[str]:
    if figures := charts.training(run):
        yield parts.panels("Training", "One point per epoch.", "", ("", figures))
    if figures := [f"{_legend(names)}{figure}" for figure, names in charts.verification(run)]:
        yield parts.panels(
            "Verification curves", "Share of genuine pairs accepted at each false accept rate.", "", ("", figures)
        )
    if figures := charts.identification(run):
        yield parts.panels(
            "Identification", "Share of probes whose subject is among the first k of the gallery.", "", ("", figures)
        )
    figures, names = charts.discard(run)
    if figures:
        yield parts.panels(
            "Error versus discard",
            "FNMR among the remaining pairs when those of lowest quality are put aside (CR-FIQA’s convention): the "
            "faster it falls, the better the score.",
            _legend(names), ("", figures),
        )  # fmt: skip


def _legend(names: list[str]) -> str:
    entries = "".join(
        f'<li><i class="swatch s{style % len(plots.SERIES)}"></i>{escape(name)}</li>'
        for style, name in enumerate(names)
    )
    return f'<ul class="legend">{entries}</ul>'


def _head_figure(run: RunResults) -> str:
    """Return the head's gradient scaling term and margin, or why they cannot be drawn over norms."""
    try:
        setting = head_settings.of_run(run.name)
        figures = (head_figures.gradients([setting]), head_figures.margins([setting]))
    except InputError as error:
        return f'<section>\n<h2>The head</h2>\n<p class="key">Not drawn: {escape(str(error))}.</p>\n</section>'
    state = ", ".join(f"{name} {value:.3g}" for name, value in setting.state.items())
    said = f" Statistics at the end of the training: {state}." if state else ""
    shown = "".join(f"<figure>{page.inline(head_figures.svg(one))}</figure>" for one in figures)
    captions = " ".join(one.caption for one in figures)
    return (
        f'<section>\n<h2>The head</h2>\n<p class="key">{escape(captions)}{escape(said)}</p>\n'
        f'<div class="panels">{shown}</div>\n</section>'
    )


def _images(run: RunResults) -> str:
    """Return the worst and the best images of each set by the run's own quality method; nothing without such sets."""
    if not run.sets("fiqa"):
        return ""
    scored = reading.read(run.name)
    method = scored.methods[0]
    shown = []
    for name in scored.sets:
        rising = scored.of(name).dropna(subset=[method]).sort_values(method, kind="stable")
        strips = (
            parts.strip(scored, "worst first", rising.head(parts.NUM_FACES), method),
            parts.strip(scored, "best first", rising.iloc[::-1].head(parts.NUM_FACES), method),
        )
        shown.append(f'<h3>{escape(name)}</h3>\n<div class="strips">{"".join(strips)}</div>')
    return (
        f"<section>\n<h2>Worst and best images by {escape(method)}</h2>\n"
        '<p class="key">Under each image its score, and its known quality where somebody knows it.</p>\n'
        + "\n".join(shown)
        + "\n</section>"
    )


def _worst(worst: Mapping[str, WorstPairs]) -> str:
    if not worst:
        return ""
    shown = "\n".join(_set(name, one) for name, one in worst.items())
    return (
        '<section>\n<h2>Worst pairs</h2>\n<p class="key">At the mean threshold of the folds. Below a pair its cosine '
        "and the norms of both features, as a measure of their quality. Red: an error at the threshold.</p>\n"
        f"{shown}\n</section>"
    )


def _set(name: str, one: WorstPairs) -> str:
    kinds = (
        (f"{one.num_false_matches} of {one.num_impostors} impostor pairs match; the most alike", one.impostors),
        (f"{one.num_false_non_matches} of {one.num_genuine} genuine pairs do not match; the least alike", one.genuine),
    )
    lists = "".join(
        f'<h4>{title}</h4>\n<ul class="pairs">{"".join(_pair(pair) for pair in pairs)}</ul>' for title, pairs in kinds
    )
    return f"<h3>{escape(name)}, threshold: a cosine of {one.threshold:.3f}</h3>\n{lists}"


def _pair(pair: Pair) -> str:
    images = "".join(_image(jpeg, name) for jpeg, name in zip(pair.images, pair.names, strict=True))
    norms = " and ".join(f"{norm:.1f}" for norm in pair.norms)
    mark = ' class="wrong"' if pair.wrong else ""
    return (
        f'<li><div class="two">{images}</div><span{mark}><b>{parts.number(pair.cosine)}</b></span>'
        f'<span class="norms">norms {norms}</span></li>'
    )


def _image(jpeg: bytes, name: str) -> str:
    if not jpeg:
        return "<span>image could not be read again</span>"
    source = "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
    said = escape(f"image {name}")
    return f'<img src="{source}" alt="{said}" title="{said}" width="112" height="112">'
