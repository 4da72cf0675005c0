"""Reader of the progress lines that stages print: `stages/runtime/progress.py` writes them."""

from __future__ import annotations

import re
from dataclasses import dataclass

LINE = re.compile(
    r"^(?P<label>.*?)\s+(?P<percent>\d+)%\s+(?P<counted>\d+/\d+(?: \w+)?)\s+(?P<rate>\S+/s)\s+(?P<left>\S+) s left"
    r"(?:\s+(?P<note>.+))?$"
)


@dataclass(frozen=True)
class Measured:
    """What a progress line says."""

    percent: float
    rate: str
    """As it was printed: ``312/s``."""
    left_s: float | None
    """Seconds that the printed part of the stage still takes; None if it cannot be known yet."""
    note: str = ""
    """What stands behind it: ``loss 3.214``."""


def parse(line: str) -> Measured | None:
    """Return what a progress line says; None for any other line.

    >>> parse("train arcface  37%  2200/6000 images  312/s  12 s left  loss 3.214")
    Measured(percent=37.0, rate='312/s', left_s=12.0, note='loss 3.214')
    >>> parse("warning: 37% of the images are small")
    """
    found = LINE.match(line)
    if found is None:
        return None
    left = float(found["left"]) if found["left"].isdecimal() else None
    return Measured(float(found["percent"]), found["rate"], left, (found["note"] or "").strip())
