"""Training sets of packed people: what the layout of stages/datasets/insightface_rec.py has beside the images."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from stages.core.recordio.framing import frame
from stages.core.recordio.header import Header, pack
from stages.packing.journal import Journal, Row
from stages.packing.plan import Plan

RECORDS, INDEX, LIST, PROPERTY, TABLE = "train.rec", "train.idx", "train.lst", "property", "pictures.parquet"


def _range(begin: int, end: int, key: int) -> bytes:
    return frame(pack(Header(2, np.array([begin, end], np.float32), key, 0), b""))


HEAD = _range(0, 0, 0)
"""Record 0, of the length that it will have; its numbers are known at the end."""


class Identities:
    """Numbers of people in the order in which they get their first image; one without an image has none."""

    def __init__(self, people: Sequence[str], rows: Sequence[Row]) -> None:
        self._people = people
        self._number: dict[str, int] = {}
        for number, row in enumerate(rows):
            if not row.problem:
                self.of(number)

    def of(self, row: int) -> float:
        """Return the number of the person on an image, a new one for a new person."""
        return float(self._number.setdefault(self._people[row], len(self._number)))


def finish(folder: Path, plan: Plan, journal: Journal, keys: Sequence[int]) -> None:
    """Append the ranges of the identities, fill record 0, and write index, list and property."""
    rows = zip(keys, journal.rows, plan.paths, strict=True)
    packed = [(key, int(row.label), path) for key, row, path in rows if key > 0]
    label_N = [label for _, label, _ in packed]
    begins = [1 + int(n) for n in np.flatnonzero(np.diff([-1, *label_N]))]
    end = len(packed) + 1
    offsets = [0, *(begin for begin, key in zip(journal.begins(), keys, strict=True) if key > 0)]
    with journal.records.open("r+b") as stream:
        stream.truncate(journal.end)
        stream.seek(journal.end)
        for number, (first, last) in enumerate(pairwise([*begins, end])):
            offsets.append(stream.tell())
            stream.write(_range(first, last, end + number))
        stream.seek(0)
        stream.write(_range(end, end + len(begins), 0))
    (folder / INDEX).write_text("".join(f"{key}\t{offset}\n" for key, offset in enumerate(offsets)), encoding="ascii")
    lines = "".join(f"1\t{path}\t{label}\n" for _, label, path in packed)
    (folder / LIST).write_text(lines, encoding="utf-8", newline="")
    (folder / PROPERTY).write_text(f"{len(begins)},112,112\n", encoding="ascii")
