"""Panels of a page: all that Matplotlib draws, in a tenth of the bytes."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from stages.core.metrics.thinning import distances
from stages.reporting import page, plots
from stages.reporting.compact import TOLERANCE, UNITS, compact, share
from stages.reporting.panels import Panel, Series, draw

ROW = np.linspace(0.001, 1, 400)
CURVE = Panel(
    "LFW & more", "false accept rate", "true accept rate",
    tuple(Series(f"row {n}", n, ROW.tolist(), (ROW ** (n + 1)).tolist()) for n in range(3)), log_x=True, top=1.02,
)  # fmt: skip
MANY = Panel("many", "x", "y", tuple(Series(f"row {n}", n, (0, 1, 2), (n, 1, n)) for n in range(29)))
DOTS = Panel("dots", "percent", "", (Series("a", 0, (1, 2, 4), (0, 0, 0)), Series("b", 8, (2, 3), (1, 1))), dots=True)
RANKS = Panel("ranks", "", "rank", (Series("a", 0, (0, 1), (1, 2)), Series("b", 1, (0, 1), (2, 1))), ranks=True)
STEPS = Panel("steps", "share", "FNMR", (Series("a", 0, (0.0, 0.3, 0.9), (0.5, 0.2, 0.1)),), steps=True)
ERRORS = Panel("det", "far", "fnmr", CURVE.series, log_x=True, log_y=True, top=1)
PANELS = [CURVE, MANY, DOTS, RANKS, STEPS, ERRORS]


def points(d: str) -> list[tuple[float, float]]:
    """Return the points of a path, in points of the drawing."""
    found, x, y = [], 0, 0
    for command, text in re.findall(r"([Mlhv])([^Mlhv]*)", d):
        numbers = [int(number) for number in re.findall(r"-?\d+", text)]
        size = {"h": 1, "v": 1}.get(command, 2)
        for at in range(0, len(numbers), size):
            dx, dy = {"h": (numbers[at], 0), "v": (0, numbers[at])}.get(command, tuple(numbers[at : at + 2]))
            x, y = (dx, dy) if command == "M" else (x + dx, y + dy)
            found.append((x / UNITS, y / UNITS))
    return found


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.title)
def test_every_word_and_every_look_of_a_panel_is_there(panel: Panel):
    drawn = draw([panel], legend=False)
    short = compact(drawn)
    root = ElementTree.fromstring(short)
    texts = {text.strip() for text in root.itertext()}
    for said in filter(None, (panel.title, panel.x_label, panel.y_label)):
        assert said in texts
    digits = [text for text in re.findall(r">([^<>]+)</t(?:ext|span)>", drawn) if re.fullmatch(r"[\d.]+", text)]
    assert {text for text in digits if "." in text} <= texts
    style = page.STYLE.read_text()
    used = {name for element in root.iter() for name in element.get("class", "").split()}
    assert {name for name in used if f".{name}" not in style} == set()
    colours = {f"c{series.style % len(plots.SERIES)}" for series in panel.series}
    assert colours <= used
    assert "style=" not in short


def test_a_panel_takes_a_small_part_of_the_bytes():
    """Curves of 400 points each; what a page shares is not counted."""
    assert len(compact(draw([CURVE], legend=False))) < len(draw([CURVE], legend=False)) / 8


@pytest.mark.parametrize("panel", [CURVE, STEPS, ERRORS], ids=lambda panel: panel.title)
def test_a_curve_stays_within_the_tolerance_of_what_matplotlib_draws(panel: Panel):
    drawn = draw([panel], legend=False)
    colour = plots.SERIES[0]
    before = re.findall(rf'<path d="([^"]*)"[^>]*fill: none; stroke: {colour}', drawn)[0]
    before_N2 = np.array([[float(x), float(y)] for x, y in re.findall(r"[ML] (\S+) (\S+)", before)])
    after_K2 = np.array(points(re.findall(r'<path class="c0" d="([^"]*)"', compact(drawn))[0]))
    pieces = list(itertools.pairwise(after_K2))
    away_N = np.min([distances(before_N2, start, end) for start, end in pieces], axis=0)
    assert away_N.max() <= TOLERANCE + math.sqrt(0.5) / UNITS


def test_a_colour_that_no_row_has_is_refused():
    drawn = draw([STEPS], legend=False).replace(plots.SERIES[0], "#123456")
    with pytest.raises(LookupError, match="a panel has the colour #123456; rows have #0072b2"):
        compact(drawn)


def test_an_axis_that_several_panels_have_is_written_once():
    one = compact(draw([RANKS], legend=False))
    shared = share("\n".join([one, one, one]))
    assert shared.count(">published<") == 1
    assert shared.count("<use ") == 4
    assert set(re.findall(r'href="#(axis\d)"', shared)) == set(re.findall(r'id="(axis\d)"', shared))
    assert share("no panel") == "no panel"


def test_a_page_of_panels_is_well_formed():
    body = share("\n".join(compact(draw([panel], legend=False)) for panel in (*PANELS, *PANELS)))
    assert ElementTree.fromstring(f"<main>{body}</main>").tag == "main"
    assert body.count("<svg ") == 2 * len(PANELS) + 1


def test_what_the_style_refers_to_is_in_every_page_with_panels(tmp_path: Path):
    html = page.document("T", [compact(draw([panel], legend=False)) for panel in PANELS])
    wanted = set(re.findall(r"url\(#(\w+)\)", page.STYLE.read_text()))
    assert wanted
    assert wanted <= set(re.findall(r' id="(\w+)"', html))
