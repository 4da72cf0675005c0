"""A table's columns as MLflow metrics: names it accepts, values as the table shows them, published beside.

Tables are read as plain data from ``resolved/tables/NAME.yaml``, where every field is said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any


def metric_name(text: str) -> str:
    """Return a column's name as MLflow takes it: word characters, space, and . - : only.

    >>> metric_name("TAR@FAR=1e-4 (%)"), metric_name("IJB-B/C")
    ('TAR at FAR 1e-4', 'IJB-B-C')
    """
    spelt = text.replace("@", " at ").replace("/", "-")
    return " ".join(re.sub(r"[^\w.\- :]", " ", spelt).split())


def check(table: Mapping[str, Any]) -> None:
    """Refuse columns that MLflow could not tell apart.

    Raises:
        ValueError: two have one name, once it is spelt as MLflow takes it.
    """
    spelt: dict[str, str] = {}
    for column in table["columns"]:
        other = spelt.setdefault(metric_name(column["name"]), column["name"])
        if other != column["name"]:
            raise ValueError(f"columns {other!r} and {column['name']!r} are one to MLflow: rename one of them")


def measured(table: Mapping[str, Any], gathered: Mapping[str, Any]) -> dict[str, float]:
    """Return a row's values as the table shows them; columns without one are left out."""
    found = {}
    for column in table["columns"]:
        suite, _, key = column["metric"].partition(".")
        value = gathered["measured"].get(suite, {}).get(key)
        if value is not None:
            factor = 100 if column["unit"] == "percent" else 1
            found[metric_name(column["name"])] = round(value * factor, column["decimals"])
    return found


def published(table: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, float]:
    """Return a row's published values, as ``published.COLUMN``."""
    values = {column["name"]: row["published"].get(column["name"]) for column in table["columns"]}
    return {f"published.{metric_name(name)}": value for name, value in values.items() if value is not None}


def shown(table: Mapping[str, Any], metrics: set[str]) -> Iterator[tuple[str, str]]:
    """Yield kind and name of what makes MLflow's list of runs the table: parameters, then the columns.

    Args:
        table: as resolved.
        metrics: those that any row has.
    """
    for name in table["ablation"]:
        yield "params", name
    for column in table["columns"]:
        name = metric_name(column["name"])
        for one in (name, f"published.{name}"):
            if one in metrics:
                yield "metrics", one
