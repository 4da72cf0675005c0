"""Result of one suite: metrics, details and curves. Plain data, ready to be written."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stages.core.metrics import rates
from stages.core.metrics.features import Features, Floats
from stages.core.metrics.processing import Processed
from stages.core.metrics.rates import Impostors, Rates, Scores

# features of images -> one quality score each; higher is better
Score = Callable[[Features], Floats]

_LISTED = 20
_CURVE_POINTS = 200

# of a curve that is drawn as ROC (tar over far) and as DET (fnmr over far)
ROC = ("set", "far", "tar", "fnmr")


@dataclass
class Table:
    """A curve: a header and rows."""

    header: tuple[str, ...]
    rows: list[tuple[str | float, ...]] = field(default_factory=list)


@dataclass
class Measured:
    """Metrics are fractions by key; details explain them; curves are named like their files."""

    metrics: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    curves: dict[str, Table] = field(default_factory=dict)
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Columns of equal length by name, of larger tables: written as Parquet."""
    documents: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What other programs read: written as JSON."""


def describe_failures(processed: Processed) -> dict[str, Any]:
    """Return the number of images, the number of failures, and the first failures."""
    return {
        "images": int(processed.processed_N.size),
        "failed": len(processed.failures),
        "first_failed": [{"image": item.name, "reason": item.reason} for item in processed.failures[:_LISTED]],
    }


def describe_rates(read: Rates) -> dict[str, Any]:
    """Return TAR by FAR, by both rules; null with the reason if the pairs cannot resolve the FAR."""
    tree: dict[str, Any] = {}
    for fmr in sorted({*read.nearest, *read.unresolved}):
        if fmr in read.unresolved:
            tree[f"{fmr:.0e}"] = {"nearest": None, "strict": None, "reason": read.unresolved[fmr]}
        else:
            points = {"nearest": read.nearest[fmr], "strict": read.strict[fmr]}
            tree[f"{fmr:.0e}"] = {
                rule: {"tar": point.tar, "far_read": point.fmr, "threshold": finite(point.threshold)}
                for rule, point in points.items()
            }
    return tree


def roc_rows(name: str, genuine_G: Scores, impostor_I: Impostors) -> list[tuple[str | float, ...]]:
    """Return a set's lines of a ``ROC`` table; none without genuine or without impostor pairs."""
    if not genuine_G.size or not impostor_I.size:
        return []
    return [(name, point.fmr, point.tar, 1 - point.tar) for point in rates.roc(genuine_G, impostor_I)]


def spread_ranks(last: int) -> Sequence[int]:
    """Return ranks from 1 to ``last``: all, or the first hundred and then increasingly spaced ones."""
    if last <= _CURVE_POINTS:
        return range(1, last + 1)
    half = _CURVE_POINTS // 2
    wider = np.geomspace(half, last, _CURVE_POINTS - half + 1)[1:].round().astype(int)
    return [*range(1, half + 1), *np.unique(wider[wider > half]).tolist()]


def finite(value: float) -> float | None:
    """Return ``value`` for JSON, which cannot hold NaN and infinity."""
    return float(value) if math.isfinite(value) else None
