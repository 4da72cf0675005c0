"""Merges the identities of several training sets into one label space.

Two sources share no identity unless a file says so: a CSV with a column per source, named after it, and a row per
person who is in several of them. A cell is the name of the person's folder, or the label in a record file, or empty.

Shapes: N images.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import InputError
from stages.io import text

Ints = NDArray[np.int64]


def merge(num_classes: Sequence[int], pairs: Sequence[Sequence[int]] = ()) -> tuple[list[Ints], int]:
    """Return, for each source, the new label of each of its labels, and how many there are.

    New labels follow the order of the sources; the first source that has a person gives the place.

    Args:
        num_classes: of each source.
        pairs: groups of one person's identities, each counted through all sources: those of the second begin after
            those of the first.

    >>> new, total = merge([2, 3], [(1, 3)])
    >>> [labels.tolist() for labels in new], total
    ([[0, 1], [2, 1, 3]], 4)
    """
    above = np.arange(sum(num_classes))
    for group in pairs:
        roots = [_root(above, identity) for identity in group]
        above[roots] = min(roots)
    root_I = np.array([_root(above, identity) for identity in range(len(above))], np.int64)
    # a root is the lowest of its group, so the order of the roots is that of the sources
    kept, label_I = np.unique(root_I, return_inverse=True)
    ends = np.cumsum(num_classes)[:-1].tolist()
    return [part.astype(np.int64) for part in np.split(label_I, ends)], len(kept)


def _root(above: Ints, identity: int) -> int:
    while above[identity] != identity:
        identity = int(above[identity])
    return identity


def read_same(path: Path, sources: Mapping[str, Mapping[str, int] | int]) -> list[list[int]]:
    """Return the groups of identities, counted through all sources, that a file says are one person.

    Args:
        path: the CSV file.
        sources: of each source the labels of its folders by name, or how many labels it has.

    Raises:
        ValueError: a column or an identity that is not there; file and line are named.
    """
    rows = csv.reader(text.read_lines(path))
    header = [cell.strip() for cell in next(rows, [])]
    unknown = sorted(set(header) - set(sources))
    if unknown or len(set(header)) < max(2, len(header)):
        raise InputError(f"{path}, line 1: wanted a column per source ({', '.join(sources)}), got {', '.join(header)}")
    sizes = [known if isinstance(known, int) else len(known) for known in sources.values()]
    begins = dict(zip(sources, np.cumsum([0, *sizes]).tolist(), strict=False))
    groups = []
    for number, row in enumerate(rows, start=2):
        named = [(source, cell.strip()) for source, cell in zip(header, row, strict=False) if cell.strip()]
        groups.append([begins[source] + _label(cell, sources[source], f"{path}, line {number}, {source}")
                       for source, cell in named])
    return [group for group in groups if len(group) > 1]


def _label(cell: str, known: Mapping[str, int] | int, where: str) -> int:
    if isinstance(known, int):
        if not cell.isdecimal() or int(cell) >= known:
            raise InputError(f"{where}: wanted a label below {known}, got {cell!r}")
        return int(cell)
    if cell not in known:
        raise InputError(f"{where}: there is no folder of a person called {cell!r}")
    return known[cell]
