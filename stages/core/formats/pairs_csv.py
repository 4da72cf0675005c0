"""Pairs of one's own: a CSV table with the columns a, b, same and, if known, fold, group, identity_a and identity_b.

    a,b,same,group
    ann/1.jpg,ann/2.jpg,1,African
    ann/1.jpg,bob/1.jpg,0,African

``a`` and ``b`` are paths of pictures, ``same`` is 1 for one person and 0 for two, ``fold`` and ``group`` are any words.
Whose picture it is say ``identity_a`` and ``identity_b``, else the picture's folder, if all pairs agree with that.

Shapes: N pictures, P pairs.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import InputError
from stages.core.formats.whole_numbers import whole_number

REQUIRED, IDENTITIES = ("a", "b", "same"), ("identity_a", "identity_b")
OPTIONAL = ("fold", "group", *IDENTITIES)
COLUMNS, FOLDERS = "identities (columns identity_a, identity_b)", "identities (folder names)"

Codes = NDArray[np.int64]


@dataclass(frozen=True)
class PairTable:
    """The distinct pictures, in the order in which pairs name them, and the pairs as rows of them."""

    names: tuple[str, ...]
    first_P: NDArray[np.int32]
    second_P: NDArray[np.int32]
    is_same_P: NDArray[np.bool_]
    fold_P: Codes | None  # from 0
    group_P: Codes | None  # rows of ``groups``; -1: in none
    groups: tuple[str, ...]
    identity_N: Codes | None
    identity_from: str  # COLUMNS or FOLDERS; empty if nobody knows


def parse(text: str) -> PairTable:
    r"""Return the pairs of a table.

    Raises:
        ValueError: a column is missing or unknown, or a line does not fit; the message names it.

    >>> found = parse("a,b,same\nann/1.jpg,ann/2.jpg,1\nann/1.jpg,bob/1.jpg,0\n")
    >>> found.names, found.first_P.tolist(), found.second_P.tolist(), found.identity_from
    (('ann/1.jpg', 'ann/2.jpg', 'bob/1.jpg'), [0, 0], [1, 2], 'identities (folder names)')
    """
    lines = list(_lines(text))
    if not lines:
        raise InputError("it lists no pairs")
    row_of: dict[str, int] = {}
    pairs = np.array([[row_of.setdefault(line[side], len(row_of)) for side in "ab"] for _, line in lines], np.int32)
    is_same_P = np.array([line["same"] == "1" for _, line in lines])
    first_P, second_P, names = pairs[:, 0], pairs[:, 1], tuple(row_of)
    fold_P = _codes([line["fold"] for _, line in lines])[0] if "fold" in lines[0][1] else None
    group_P, groups = _groups(lines)
    identity_N, identity_from = _identities(lines, names, first_P, second_P, is_same_P)
    return PairTable(names, first_P, second_P, is_same_P, fold_P, group_P, groups, identity_N, identity_from)


def _lines(text: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the number and the checked fields of each line that is not empty."""
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
    header = [name.strip() for name in next(reader, [])]
    unknown = [name for name in header if name not in (*REQUIRED, *OPTIONAL)]
    one_identity = len(set(header) & set(IDENTITIES)) == 1
    if unknown or set(REQUIRED) - set(header) or len(set(header)) < len(header) or one_identity:
        raise InputError(
            f"its first line should name the columns {', '.join(REQUIRED)}, and if you like fold, group, and both "
            f"{' and '.join(IDENTITIES)}; got {','.join(header)[:80]!r}"
        )
    for fields in reader:
        if not any(field.strip() for field in fields):
            continue
        if len(fields) != len(header):
            raise InputError(f"line {reader.line_num}: wanted {len(header)} fields, got {len(fields)}")
        line = {name: field.strip() for name, field in zip(header, fields, strict=True)}
        yield reader.line_num, _checked(line, reader.line_num)


def _checked(line: dict[str, str], number: int) -> dict[str, str]:
    for side in "ab":
        line[side] = line[side].replace("\\", "/")  # as Windows writes paths
        path = PurePosixPath(line[side])
        if not line[side] or path.is_absolute() or ".." in path.parts:
            raise InputError(f"line {number}: {side} should be a picture's path in this folder, got {line[side]!r}")
    if line["same"] not in ("0", "1"):
        raise InputError(f"line {number}: same should be 1 (one person) or 0 (two), got {line['same']!r}")
    empty = [name for name in ("fold", *IDENTITIES) if line.get(name) == ""]
    if empty:
        raise InputError(f"line {number}: {empty[0]} is empty; leave the column out if nobody knows it")
    return line


def _codes(words: Sequence[str]) -> tuple[Codes, tuple[str, ...]]:
    """Return each word's place among the distinct ones, and these: numbers in their order, else the alphabet's."""
    distinct = sorted(set(words), key=lambda word: (whole_number(word) is None, whole_number(word) or 0, word))
    place = {word: code for code, word in enumerate(distinct)}
    return np.array([place[word] for word in words], dtype=np.int64), tuple(distinct)


def _groups(lines: Sequence[tuple[int, Mapping[str, str]]]) -> tuple[Codes | None, tuple[str, ...]]:
    words = [line.get("group", "") for _, line in lines]
    if not any(words):
        return None, ()
    code_P, distinct = _codes(words)
    if "" in distinct:
        lone = distinct.index("")
        code_P = np.where(code_P == lone, -1, code_P - (code_P > lone))
    return code_P, tuple(word for word in distinct if word)


def _identities(
    lines: Sequence[tuple[int, Mapping[str, str]]],
    names: tuple[str, ...],
    first_P: NDArray[np.int32],
    second_P: NDArray[np.int32],
    is_same_P: NDArray[np.bool_],
) -> tuple[Codes | None, str]:
    """Return who is on each picture, and what says so."""
    if "identity_a" in lines[0][1]:
        return _codes([*_said(lines).values()])[0], COLUMNS
    folders = [PurePosixPath(name).parent.as_posix() for name in names]
    code_N = _codes(folders)[0]
    agrees = bool(((code_N[first_P] == code_N[second_P]) == is_same_P).all())
    return (code_N, FOLDERS) if agrees and "." not in folders else (None, "")


def _said(lines: Sequence[tuple[int, Mapping[str, str]]]) -> dict[str, str]:
    """Return the identity of each picture by the columns, in the order in which pairs name them.

    Raises:
        ValueError: a picture has two, or ``same`` says otherwise.
    """
    known: dict[str, str] = {}
    for number, line in lines:
        for side in "ab":
            said = line[f"identity_{side}"]
            if known.setdefault(line[side], said) != said:
                raise InputError(f"line {number}: {line[side]} is of {said}, before it was of {known[line[side]]}")
        if (line["identity_a"] == line["identity_b"]) != (line["same"] == "1"):
            both = f"{line['identity_a']} and {line['identity_b']}"
            raise InputError(f"line {number}: same is {line['same']}, but the identities are {both}")
    return known
