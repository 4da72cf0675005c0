"""Mean and sample standard deviation of a measurement over seeds, and how a table rounds them.

The spread is that of single trainings (divisor n - 1), not the standard error of their mean: it says how far one
more training may fall from the mean, which is what a reader of an ablation wants to know.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from stages.core.errors import InputError


@dataclass(frozen=True)
class Spread:
    """A measurement over several seeds."""

    mean: float
    std: float | None
    """Sample standard deviation; None of one measurement."""
    count: int
    low: float
    high: float


def spread(values: Sequence[float | None]) -> Spread | None:
    """Return the spread of ``values``; None if one was not measured, or there are none.

    A mean over those seeds that could be measured would compare different things.

    >>> spread([0.25, 0.75])
    Spread(mean=0.5, std=0.3535533905932738, count=2, low=0.25, high=0.75)
    >>> spread([0.5]).std is None, spread([0.5, None]), spread([])
    (True, None, None)

    Raises:
        ValueError: a value is not finite.
    """
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    if not all(math.isfinite(value) for value in known):
        raise InputError(f"measurements are finite numbers, got {list(values)}")
    mean = math.fsum(known) / len(known)
    squares = math.fsum((value - mean) ** 2 for value in known)
    std = math.sqrt(squares / (len(known) - 1)) if len(known) > 1 else None
    return Spread(mean, std, len(known), min(known), max(known))


def rounded(value: float, decimals: int) -> float:
    """Return a value as a table shows it: rounded, and 0.0 in place of -0.0.

    >>> rounded(12.346, 2), rounded(-0.001, 2)
    (12.35, 0.0)
    """
    return round(value, decimals) + 0.0
