"""Reads Parquet tables without trust: each column is there once, of the wanted kind and without gaps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from stages.core.errors import InputError

Kind = Literal["text", "whole numbers", "numbers"]

_IS: dict[Kind, Callable[[pa.DataType], bool]] = {
    "text": lambda kind: bool(pa.types.is_string(kind) or pa.types.is_large_string(kind)),
    "whole numbers": lambda kind: bool(pa.types.is_integer(kind)),
    "numbers": lambda kind: bool(pa.types.is_integer(kind) or pa.types.is_floating(kind)),
}


def read(path: Path, columns: Mapping[str, Kind] | None = None) -> pa.Table:
    """Return a table; of the columns asked for, or all.

    Args:
        path: of the file.
        columns: by name what each holds, in every row; None: all there are, whatever they hold.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a Parquet table or damaged, or a column is missing, of another kind or has gaps.
    """
    names = None if columns is None else list(columns)
    with _refused(path, "" if names is None else f" with the columns {', '.join(names)}"):
        table = pq.read_table(path, columns=names)
        table.validate(full=True)  # texts that are not UTF-8 among others
        there = table.column_names
    for name, kind in (columns or {}).items():
        if there.count(name) != 1:
            raise InputError(f"{path} should have the column {name} once, got {', '.join(there)[:200]}")
        if not _IS[kind](table[name].type) or table[name].null_count:
            gaps = ", with gaps" if table[name].null_count else ""
            raise InputError(f"{path}, column {name}: wanted {kind} in every row, got {table[name].type}{gaps}")
    return table


def names(path: Path) -> list[str]:
    """Return the names of a table's columns; nothing else of it is read.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a Parquet table.
    """
    with _refused(path, ""):
        found: list[str] = pq.read_schema(path).names
    return found


def read_frame(path: Path, columns: Mapping[str, Kind] | None = None) -> pd.DataFrame:
    """Return a table as ``read``, for pandas.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: as ``read``; or what the file says to pandas is damaged.
    """
    table = read(path, columns)
    with _refused(path, ""):
        return table.to_pandas()


@contextmanager
def _refused(path: Path, wanted: str) -> Iterator[None]:
    """Raise an InputError in place of what Arrow and pandas raise for a damaged file."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (pa.ArrowException, KeyError, TypeError, ValueError, OSError) as error:
        raise InputError(f"{path} should be a Parquet table{wanted}: {' '.join(str(error).split())[:200]}") from error
