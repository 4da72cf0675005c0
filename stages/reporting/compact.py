"""A panel's SVG for a page, from Matplotlib's: same picture, a tenth of the bytes.

Looks are classes of page.css, marks of one look are one path, curves are thinned, and coordinates are whole numbers of
a quarter of a point. ``share`` then writes an axis that several panels of a page have once.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from xml.etree import ElementTree

import numpy as np

from stages.core.errors import UnknownNameError
from stages.core.metrics.thinning import thin
from stages.reporting.panels import AREA_INCHES, INK, PANEL_INCHES, PAPER, SERIES

UNITS = 4  # to a point
TOLERANCE = 0.5  # points, about as many pixels: how far a curve may move, a third of its line's width
AXIS = re.compile(r'<g class="ax">(?:<g .*?</g>|.)*?</g>', re.DOTALL)
_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"
_POINTS_PER_INCH = 72
_LEFT, _TOP, _RIGHT, _BOTTOM = (inches * _POINTS_PER_INCH for inches in AREA_INCHES)
_SIZES = {"8.5px": "b", "9.5px": "h"}
_RAISED = str.maketrans("-−0123456789", "⁻⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_RAISED_WIDTH, _TICK_LABEL = 3.5, 3.5  # points: a raised character; from an axis to the labels of its ticks
_ANCHORS = {"middle": "m", "end": "e"}

Style = dict[str, str]
Point = tuple[float, float]
Element = ElementTree.Element


@dataclass(frozen=True)
class _Label:
    look: str
    x: int
    y: int
    said: str

    def element(self) -> str:
        return f'<text{_classes(self.look)} x="{self.x}" y="{self.y}">{self.said}</text>'


class _Axis:
    """One axis: its line, its ticks by look, in the order of their places, and labels."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.line: list[Point] = []
        self.ticks: dict[str, list[Point]] = {}
        self.labels: list[_Label] = []

    def tick(self, look: str, x: float, y: float) -> None:
        self.ticks.setdefault(look, []).append((x, _BOTTOM) if self.name == "x" else (_LEFT, y))

    def element(self) -> str:
        """Return the axis; a marker at each point of a path between the ends of the line draws a tick."""
        kinds = {look: sorted(points) for look, points in self.ticks.items()}
        if kinds.get("g") == kinds.get("t") and "g" in kinds:
            kinds = {"gt": kinds.pop("g"), **kinds}
            del kinds["t"]
        ends = [(_LEFT, _BOTTOM), (_RIGHT, _BOTTOM) if self.name == "x" else (_LEFT, _TOP)]
        if self.name == "y":
            kinds = {look: points[::-1] for look, points in kinds.items()}
        paths = list[str]()
        for look, points in (kinds or {"": []}).items():
            # the first of them draws the line too
            line = "s" if self.line and not paths else "n"
            classes = f"{line} {self.name}{look}" if look else line
            paths.append(f'<path class="{classes}" d="{path([ends[0], *points, ends[1]], every=True)}"/>')
        return f'<g class="ax">{"".join(paths) if self.line or kinds else ""}{"".join(self._labels())}</g>'

    def _labels(self) -> Iterator[str]:
        """Yield labels; those of ticks, in a line, as one element."""
        ticks = [one for one in self.labels if one.look == ("m" if self.name == "x" else "e")]
        for at, group in itertools.groupby(ticks, key=lambda one: one.y if self.name == "x" else one.x):
            if self.name == "x":
                spans = "".join(f'<tspan x="{one.x}">{one.said}</tspan>' for one in group)
                yield f'<text class="m" y="{at}">{spans}</text>'
            else:
                texts = "".join(f'<text y="{one.y}">{one.said}</text>' for one in group)
                yield f'<g class="e" transform="translate({at})">{texts}</g>'
        yield from (one.element() for one in self.labels if one not in ticks)


class _Drawn:
    """What a panel shows: axes, title, and by look the lines of its series."""

    def __init__(self) -> None:
        self.axes = {"x": _Axis("x"), "y": _Axis("y")}
        self.title = ""
        self.series: dict[str, list[list[Point]]] = {}

    def element(self) -> str:
        """Return all of it as one element."""
        width, height = (inches * _POINTS_PER_INCH * UNITS for inches in PANEL_INCHES)
        series = self.series.items()
        paths = "".join(f'<path class="{look}" d="{"".join(map(path, lines))}"/>' for look, lines in series)
        axes = "".join(axis.element() for axis in self.axes.values())
        return (
            f'<svg class="plot" viewBox="0 0 {width:g} {height:g}">{axes}'
            f'<g class="in">{paths}</g>{self.title}</svg>'
        )


def _classes(look: str) -> str:
    return f' class="{look}"' if look else ""


def compact(svg: str) -> str:
    """Return one panel, as ``panels.draw`` draws it without a legend, as an element of a page with page.css.

    Raises:
        LookupError: the drawing has a colour that is neither a row's nor the ink.
    """
    root = ElementTree.fromstring(svg[svg.index("<svg") :])
    markers = {path.get("id", ""): path.get("d", "") for path in root.iter(f"{_SVG}path") if path.get("id")}
    drawn = _Drawn()
    for element, parent in _leaves(root):
        style = _style(element)
        if element.tag == f"{_SVG}text":
            _add_text(drawn, element, parent)
        elif element.tag == f"{_SVG}use":
            _add_marker(drawn, element, style, markers[element.get(_LINK, "")[1:]])
        elif style.get("fill") != PAPER and len(points := _points(element.get("d", ""))) > 1:
            _add_line(drawn, points, style)
    return drawn.element()


def share(body: str) -> str:
    """Return a page's body with each axis that several of its panels have written once, and what clips curves."""
    times = Counter(AXIS.findall(body))
    if not times:
        return body
    several = [axis for axis, count in times.items() if count > 1]
    names = {axis: f"axis{number}" for number, axis in enumerate(several)}
    written = set[str]()

    def once(found: re.Match[str]) -> str:
        axis = found[0]
        if axis in written:
            return f'<use href="#{names[axis]}"/>'
        if axis in names:
            written.add(axis)
            return axis.replace("<g", f'<g id="{names[axis]}"', 1)
        return axis

    return AXIS.sub(once, body) + "\n" + _symbols()


def _symbols() -> str:
    """Return what panels refer to: the area that clips curves, and a marker for each kind of tick."""
    area = path([(_LEFT, _TOP), (_RIGHT, _TOP), (_RIGHT, _BOTTOM), (_LEFT, _BOTTOM)])
    across, up = path([(0, 0), (_RIGHT - _LEFT, 0)]), path([(0, 0), (0, _TOP - _BOTTOM)])
    ticks = {
        "xg": f'<path class="g" d="{up}"/>', "yg": f'<path class="g" d="{across}"/>',
        "xt": '<path class="t" d="M0 0v14"/>', "yt": '<path class="t" d="M0 0h-14"/>',
        "xs": '<path class="s" d="M0 0v8"/>', "ys": '<path class="s" d="M0 0h-8"/>',
    }  # fmt: skip
    ticks |= {"xgt": ticks["xg"] + ticks["xt"], "ygt": ticks["yg"] + ticks["yt"]}
    markers = "".join(
        f'<marker id="{name}" markerUnits="userSpaceOnUse" overflow="visible">{tick}</marker>'
        for name, tick in ticks.items()
    )
    clip = f'<clipPath id="curves"><path d="{area}"/></clipPath>'
    return f'<svg class="plot" width="0" height="0"><defs>{markers}{clip}</defs></svg>'


def path(points: list[Point], every: bool = False) -> str:
    """Return a polyline as SVG writes it in short: whole numbers of a quarter of a point, steps from the point before.

    Args:
        points: x and y of each.
        every: points that are one in whole numbers stay several.

    >>> path([(1, 1), (3, 1), (4, 0.5), (4, 0.5), (4, 2)])
    'M4 4h8l4-2v6'
    """
    whole = [(_units(x), _units(y)) for x, y in points]
    said = [f"M{_numbers(whole[0])}"]
    command = "M"
    every = every or len(points) == 2  # a dot is a line to where it begins
    for before, after in itertools.pairwise(whole):
        step = (after[0] - before[0], after[1] - before[1])
        if step == (0, 0) and not every:
            continue
        if 0 in step:
            command = "h" if step[1] == 0 else "v"
            said.append(f"{command}{step[0] or step[1]}")
            continue
        numbers = _numbers(step)
        said.append(numbers if command == "l" and numbers[0] == "-" else f"{' ' if command == 'l' else 'l'}{numbers}")
        command = "l"
    return "".join(said)


def _numbers(pair: tuple[int, int]) -> str:
    return f"{pair[0]}{'' if pair[1] < 0 else ' '}{pair[1]}"


def _units(points: float) -> int:
    return round(points * UNITS)


def _leaves(element: Element, parent: Element | None = None) -> Iterator[tuple[Element, Element | None]]:
    """Yield what is drawn, with the group around it."""
    if element.tag in {f"{_SVG}path", f"{_SVG}use", f"{_SVG}text"}:
        yield element, parent
    elif element.tag in {f"{_SVG}svg", f"{_SVG}g"}:
        for child in element:
            yield from _leaves(child, element)


def _style(element: Element) -> Style:
    parts = (part.partition(":") for part in element.get("style", "").split(";") if part.strip())
    return {name.strip(): value.strip() for name, _, value in parts}


def _points(d: str) -> list[Point]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML] (\S+) (\S+)", d)]


def _colour(style: Style) -> str:
    if style["stroke"] not in SERIES:
        raise UnknownNameError(f"a panel has the colour {style['stroke']}; rows have {', '.join(SERIES)}")
    return f"c{SERIES.index(style['stroke'])}"


def _add_line(drawn: _Drawn, points: list[Point], style: Style) -> None:
    """Add a line of the grid, an axis, a curve, or the bar of a spread."""
    if style["stroke"] == INK:
        upright = points[0][0] == points[-1][0]
        grid = "stroke-opacity" in style
        if grid:
            drawn.axes["x" if upright else "y"].tick("g", *points[0])
        else:
            drawn.axes["y" if upright else "x"].line = points
        return
    kept = [points[index] for index in thin(np.array(points), TOLERANCE)]
    look = _colour(style) if "stroke-width" in style else f"{_colour(style)} bar"
    if dashes := style.get("stroke-dasharray"):
        look += f" dash{len(dashes.split(','))}{'' if float(dashes.split(',')[0]) > 2 else 's'}"
    drawn.series.setdefault(look, []).append(kept)


def _add_marker(drawn: _Drawn, use: Element, style: Style, d: str) -> None:
    """Add a tick, a dot, or the end of a spread's bar."""
    x, y = float(use.get("x", "")), float(use.get("y", ""))
    if "C" in d:
        size = "dot" if "fill-opacity" not in style else "dot thin"
        drawn.series.setdefault(f"{_colour(style)} {size}", []).append([(x, y), (x, y)])
    elif style["stroke"] == INK:
        below = y > _BOTTOM - 0.1 and len({dx for dx, _ in _points(d)}) == 1
        drawn.axes["x" if below else "y"].tick("t" if style.get("stroke-width") == "0.8" else "s", x, y)
    else:
        drawn.series.setdefault(f"{_colour(style)} bar", []).append([(x + dx, y + dy) for dx, dy in _points(d)])


def _add_text(drawn: _Drawn, text: Element, parent: Element | None) -> None:
    """Add a title, the label of an axis, or that of a tick."""
    style, x, y = _style(text), float(text.get("x", "0")), float(text.get("y", "0"))
    look = " ".join(filter(None, [_SIZES.get(style.get("font-size", "")), _ANCHORS.get(style.get("text-anchor", ""))]))
    if "h" in look.split():
        drawn.title = _label(look, x, y, text.text).element()
    elif text.get("transform", "").startswith("rotate(-90"):
        # turned by the style about the origin
        drawn.axes["y"].labels.append(_label("b r", -y, x, text.text))
    elif len(text):
        # a formula, in its own place: a power of ten
        shift = re.search(r"translate\((\S+) (\S+)\)", "" if parent is None else parent.get("transform", ""))
        assert shift is not None
        axis = "x" if float(shift[2]) > _BOTTOM + 7 else "y"
        drawn.axes[axis].labels.append(_power(axis, float(shift[1]), float(shift[2]), text))
    else:
        drawn.axes["x" if y > _BOTTOM + 7 else "y"].labels.append(_label(look, x, y, text.text))


def _label(look: str, x: float, y: float, said: str | None) -> _Label:
    return _Label(look, _units(x), _units(y), escape(said or "", quote=False))


def _power(axis: str, x: float, y: float, text: Element) -> _Label:
    """Return the label of a tick with an exponent, in characters that are raised."""
    first, last = float(text[0].get("x", "0")), float(text[-1].get("x", "0"))
    height = float(text[0].get("y", "0"))
    characters = [
        one.text.translate(_RAISED) if float(one.get("y", "0")) < height - 1 else one.text for one in text if one.text
    ]
    middle = x + (first + last) / 2 + _RAISED_WIDTH / 2
    look, at = ("m", middle) if axis == "x" else ("e", _LEFT - _TICK_LABEL)
    return _label(look, at, y + height, "".join(characters))
