"""A table's columns as MLflow metrics: valid names, values as the table shows them, and the published values.

Tables are read as plain data from ``resolved/tables/NAME.yaml``, where every field is said.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from stages.core.errors import InputError
from stages.core.metrics.missing import why
from stages.core.metrics.published_sets import why_apart
from stages.core.metrics.spread import rounded, spread

STD, PUBLISHED = ".std", "published."


def metric_name(text: str) -> str:
    """Return a column's name in MLflow's allowed characters: word characters, space, and . - : only.

    >>> metric_name("TAR@FAR=1e-4 (%)"), metric_name("IJB-B/C")
    ('TAR at FAR 1e-4', 'IJB-B-C')
    """
    spelt = text.replace("@", " at ").replace("/", "-")
    return " ".join(re.sub(r"[^\w.\- :]", " ", spelt).split())


def check(table: Mapping[str, Any]) -> None:
    """Refuse columns whose MLflow names would be equal.

    Raises:
        ValueError: two have one name, once it is spelt as MLflow takes it.
    """
    spelt: dict[str, str] = {}
    for column in table["columns"]:
        other = spelt.setdefault(metric_name(column["name"]), column["name"])
        if other != column["name"]:
            raise InputError(f"columns {other!r} and {column['name']!r} are equal in MLflow: rename one of them")


def measured(
    table: Mapping[str, Any], gathered: Sequence[Mapping[str, Any]], row: Mapping[str, Any]
) -> dict[str, float]:
    """Return a row's values as the table shows them: means over its seeds, and with several ``COLUMN.std``.

    Columns without a value are left out, and those that one of the seeds could not measure: a mean over the others
    would compare different things. The standard deviation is that of single trainings (divisor n - 1).

    Args:
        table: as resolved.
        gathered: what each seed's run measured.
        row: of the table; its ``quality`` stands where a column's metric has ``{quality}``.
    """
    found = {}
    for column in table["columns"]:
        factor, name = 100 if column["unit"] == "percent" else 1, metric_name(column["name"])
        values = [_value(column, one, row) for one in gathered]
        over_seeds = spread([None if value is None else value * factor for value in values])
        if over_seeds is None:
            continue
        found[name] = rounded(over_seeds.mean, column["decimals"])
        if over_seeds.std is not None:
            found[name + STD] = rounded(over_seeds.std, column["decimals"])
    return found


def not_measured(
    table: Mapping[str, Any], gathered: Sequence[Mapping[str, Any]], row: Mapping[str, Any]
) -> dict[str, str]:
    """Return why a row lacks a value, by column as MLflow spells it: what the report says, of the first such seed."""
    found = {}
    for column in table["columns"]:
        lacking = next((one for one in gathered if _value(column, one, row) is None), None)
        if lacking is not None:
            suite, key = _place(column, row)
            recorded, switches = (lacking.get(kind, {}).get(suite, {}) for kind in ("unmeasured", "switches"))
            said = why(suite, key, recorded, switches, _measured_on(lacking))
            found[metric_name(column["name"])] = ": ".join(filter(None, said))
    return found


def measured_on(
    table: Mapping[str, Any], row: Mapping[str, Any], sets: Mapping[str, str]
) -> dict[str, tuple[str, str]]:
    """Return the data set of each column, by column as MLflow spells it: name and digest.

    There is none for what the training itself measured, and for a mean over several test sets.

    Args:
        table: as resolved.
        row: of the table.
        sets: digests of the data sets that the row was evaluated on, by name; ``NAME/SET`` is one test set.
    """
    found = {}
    for column in table["columns"]:
        suite, key = _place(column, row)
        if suite in ("train", "quality"):
            continue
        # lfw_mask_...: of lfw_mask, not of lfw
        own = sorted((name for name in sets if _is_of(key, name.partition("/")[2])), key=len)
        fitting = own[-1:] or [name for name in sets if "/" not in name]
        if len(fitting) == 1:
            found[metric_name(column["name"])] = (fitting[0], sets[fitting[0]])
    return found


def _is_of(key: str, name: str) -> bool:
    """Return whether a metric is named after a test set."""
    return bool(name) and f"{key}_".lower().startswith(f"{name}_".lower())


def _value(column: Mapping[str, Any], gathered: Mapping[str, Any], row: Mapping[str, Any]) -> float | None:
    suite, key = _place(column, row)
    value: float | None = gathered["measured"].get(suite, {}).get(key)
    return value


def _measured_on(gathered: Mapping[str, Any]) -> str:
    """Return the data set of a run's test sets."""
    return str(gathered.get("measured_on") or gathered["parameters"].get("dataset", ""))


def _place(column: Mapping[str, Any], row: Mapping[str, Any]) -> tuple[str, str]:
    """Return suite and key of a column's metric, for a row."""
    suite, _, key = column["metric"].replace("{quality}", str(row.get("quality"))).partition(".")
    return suite, key


def not_compared(
    table: Mapping[str, Any], gathered: Sequence[Mapping[str, Any]], row: Mapping[str, Any], data: Mapping[str, Any]
) -> dict[str, str]:
    """Return why a row's value is not compared with the published one, by column; what the report says.

    Args:
        table: as resolved.
        gathered: what each seed's run measured.
        row: of the table.
        data: what is said of data sets, by name.
    """
    found: dict[str, str] = {}
    for column in table["columns"]:
        if row["published"].get(column["name"]) is None or any(_value(column, one, row) is None for one in gathered):
            continue
        for one in gathered:
            name = _measured_on(one)
            if reason := why_apart(*_place(column, row), name, data.get(name), one.get("counts", {})):
                found.setdefault(column["name"], reason)
    return found


def published(
    table: Mapping[str, Any], row: Mapping[str, Any], without: Collection[str] = ()
) -> dict[str, float]:
    """Return a row's published values, as ``published.COLUMN``, without those of some columns."""
    names = [column["name"] for column in table["columns"] if column["name"] not in without]
    values = {name: row["published"].get(name) for name in names}
    return {PUBLISHED + metric_name(name): value for name, value in values.items() if value is not None}


def shown(table: Mapping[str, Any], metrics: set[str]) -> Iterator[tuple[str, str]]:
    """Yield kind and name of the columns of MLflow's list of runs: parameters, then the table's columns.

    Args:
        table: as resolved.
        metrics: those that any row has.
    """
    for name in table["ablation"]:
        yield "params", name
    for column in table["columns"]:
        name = metric_name(column["name"])
        for one in (name, name + STD, PUBLISHED + name):
            if one in metrics:
                yield "metrics", one


def primary(table: Mapping[str, Any]) -> tuple[str, bool]:
    """Return the metric by which a table's best model is chosen, and whether higher is better.

    It is the column that the table calls ``primary``, else its first.
    """
    name = table.get("primary")
    column = next((one for one in table["columns"] if one["name"] == name), table["columns"][0])
    return metric_name(column["name"]), bool(column["higher_is_better"])
