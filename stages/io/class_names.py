"""Files of class names: a line for each class, in the order of the classes; and which classes of two lists are one.

Shapes: C classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import InputError

UNKNOWN = ""
"""Of a class without a name, or with one that another class has too."""
ENCODING, ERRORS = "utf-8", "surrogateescape"
"""Names are as the file system has them, and not all are UTF-8."""


def read(path: Path, num_classes: int) -> list[str]:
    """Return the names that a file has.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: there are more or fewer lines than classes.
    """
    lines = path.read_text(encoding=ENCODING, errors=ERRORS).split("\n")
    names = lines[:-1] if not lines[-1] else lines
    if len(names) != num_classes:
        raise InputError(f"{path} has {len(names)} lines, wanted a name for each of {num_classes} classes, in order")
    return unambiguous([name.rstrip("\r") for name in names])


def write(path: Path, names: Sequence[str]) -> None:
    """Write a line for each class."""
    path.write_text("".join(f"{name}\n" for name in names), encoding=ENCODING, errors=ERRORS, newline="")


def unambiguous(names: Sequence[str]) -> list[str]:
    """Return the names without those that two classes have: in a merged set two people may have one name.

    >>> unambiguous(["ann", "bo", "ann"])
    ['', 'bo', '']
    """
    count = Counter(names)
    return [name if count[name] == 1 else UNKNOWN for name in names]


def rows(wanted: Sequence[str], known: Sequence[str]) -> NDArray[np.int64]:
    """Return for each wanted class the number of the known class of its name, -1 where there is none, shape (C,).

    >>> rows(["bo", "", "zoe"], ["ann", "bo", ""]).tolist()
    [1, -1, -1]
    """
    number = {name: row for row, name in enumerate(known) if name != UNKNOWN}
    return np.array([number.get(name, -1) for name in wanted], np.int64)
