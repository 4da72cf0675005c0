"""Rows that a comparison is made of, with the numbers that a test gives."""

from __future__ import annotations

from typing import Any

from stages.config.table import Gathered, Scale, Table
from stages.reporting.comparison import Comparison, compare

DEMO = Scale(profile="demo")


def gathered(run: str, seed: int = 0, **metrics: float | None) -> Gathered:
    """A run whose suite `s` measured these; None: it could not."""
    return Gathered(
        run=run,
        weights_sha256="0" * 64,
        parameters={"seed": seed, "head.name": run},
        measured={"s": {key: value for key, value in metrics.items() if value is not None}},
        unmeasured={"s": {key.replace("_", "."): "too few pairs" for key in metrics if metrics[key] is None}},
        curves={},
    )


def table(*columns: dict[str, Any], **published: dict[str, float | None]) -> Table:
    return Table.model_validate(
        {
            "title": "T",
            "source": "S",
            "columns": list(columns),
            "rows": {
                name: {"label": name.upper(), "run": name, "published": values}
                for name, values in published.items()
            },
        }
    )


X = {"name": "X", "metric": "s.x_one"}
Y = {"name": "Y", "metric": "s.y_one", "unit": "fraction", "decimals": 3, "higher_is_better": False}


def three(x: tuple[float | None, ...], y: tuple[float | None, ...]) -> Comparison:
    """Three rows, published 1 2 3 in X and 3 2 1 in Y."""
    shown = table(X, Y, a={"X": 1.0, "Y": 3.0}, b={"X": 2.0, "Y": 2.0}, c={"X": 3.0, "Y": 1.0})
    runs = {key: [gathered(key, x_one=x[i], y_one=y[i])] for i, key in enumerate("abc")}
    return compare("t", shown, DEMO, runs)
