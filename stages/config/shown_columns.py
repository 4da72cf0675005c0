"""Columns of a run that DVC shows: those of the tables that it is in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from stages.config.summary import Summary
from stages.config.table import QUALITY, Table
from stages.config.tree import RowOfTable
from stages.protocols import averages


def of_run(run: str, rows: Iterable[tuple[str, RowOfTable]], tables: Mapping[str, Table]) -> Summary:
    """Return the columns of the tables that a run is in; of all tables, if it is in none.

    Args:
        run: its name.
        rows: names and rows of params.yaml.
        tables: by name.
    """
    # of further seeds, TABLE-ROW-1, the row of the table is that of the first
    own = [(row.table, name.split("-")[1]) for name, row in rows if row.run == run]
    found: list[str] = []
    for table, key in own:
        row = tables[table].rows[key]
        found += [f"{column.suite}.{column.key(row)}" for column in tables[table].columns]
    if not own:
        every = [column for table in tables.values() for column in table.columns if QUALITY not in column.metric]
        found = [column.metric for column in every]
    if not found:
        found = [*averages.HQ_AVG, *averages.OTHERS, "averages.all_avg"]
    return Summary(columns=tuple(dict.fromkeys(found)))
