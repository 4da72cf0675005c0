"""Writes a planned record file with its index, table and lists: aside, then moved into place, whole or not at all.

    SET/images.rec, images.idx, images.parquet     a test set (stages/io/packed_images.py)
    FOLDER/train.rec, train.idx, train.lst, property, pictures.parquet     people: InsightFace's layout
    .../without_face.csv                           pictures that were searched for a face in vain

Stopped or killed, it goes on where it was.
"""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.core.errors import InputError
from stages.core.recordio.header import Header, pack
from stages.io import packed_images
from stages.packing import people
from stages.packing.journal import JOURNAL, Journal, Row, key_of, stamp_of
from stages.packing.pictures import Take
from stages.packing.plan import Plan
from stages.runtime import locks
from stages.runtime.progress import Progress, say

WITHOUT_FACE = "without_face.csv"
_LOCK = "lock"


def write(source: Path, target: Path, plan: Plan, take: Take, **options: Any) -> list[Row]:
    """Pack what is planned; return a row per image.

    Args:
        source: the folder; nothing is written there.
        target: the new folder; it is filled beside its place and moved there.
        plan: of packing ``source``.
        take: makes the record of a picture.
        options: on which ``take`` depends: what was packed with others is packed again.

    Raises:
        ValueError: ``target`` is there or inside ``source``, another process packs to it, a name is not UTF-8, or no
            picture can be packed.
    """
    _refuse(source, target, plan)
    aside = target.with_name(target.name + ".partial")
    with _alone(aside):
        stamps = [stamp_of(source / path) for path in plan.paths]
        lists = [[path, stamp_of(source / path)] for path in plan.lists]
        key = key_of(str(source.resolve()), plan.title, list(plan.paths), lists, options)
        head = people.HEAD if plan.people else b""
        with Journal(aside, people.RECORDS if plan.people else packed_images.RECORDS, key, head, stamps) as journal:
            _append(source, plan, take, journal, stamps)
        if journal.end == len(head):
            problem = _first(plan, journal.rows)
            raise InputError(f"{source}: none of {len(plan.paths)} pictures can be packed; {problem}")
        _finish(source, aside, plan, journal)
        aside.replace(target)
    return journal.rows


def _refuse(source: Path, target: Path, plan: Plan) -> None:
    if packed_images.is_packed(source):
        raise InputError(f"{source} is packed: give the folder that it was made of")
    if target.exists():
        raise InputError(f"{target} is there already: nothing is overwritten; remove it or give another place")
    if target.resolve().is_relative_to(source.resolve()):
        raise InputError(f"{target} is inside {source}, where nothing is written: give a place elsewhere")
    for path in plan.paths:
        try:
            path.encode()
        except UnicodeEncodeError:
            raise InputError(f"{source}: the name {os.fsencode(path)!r} is not UTF-8: rename the picture") from None


@contextmanager
def _alone(aside: Path) -> Iterator[None]:
    """Hold the lock of the folder aside while the block runs."""
    aside.mkdir(parents=True, exist_ok=True)
    descriptor = locks.try_lock(aside / _LOCK)
    if descriptor is None:
        raise InputError(f"{aside}: another `facet pack` is writing there")
    try:
        yield
    finally:
        os.close(descriptor)


def _append(source: Path, plan: Plan, take: Take, journal: Journal, stamps: Sequence[str]) -> None:
    done = len(journal.rows)
    if done:
        say(f"{done:,} of {len(plan.paths):,} images were packed before")
    numbers = people.Identities(plan.columns["person"], journal.rows) if plan.people else None
    known = plan.columns.get(plan.label)
    progress = Progress(f"pack {plan.title}", len(plan.paths) - done, "images")
    for row in range(done, len(plan.paths)):
        taken = take(source / plan.paths[row])
        payload, label = None, -1.0
        if taken.data is not None and numbers is not None:
            label = numbers.of(row)
            payload = pack(Header(2, np.array([label, 1], np.float32), row + 1, 0), taken.data)
        elif taken.data is not None:
            label = float(row if known is None else known[row])
            payload = pack(Header(0, label, row, 0), taken.data)
        journal.add(payload, stamps[row], label=label, problem=taken.problem, face=taken.face)
        progress.advance()


def _finish(source: Path, aside: Path, plan: Plan, journal: Journal) -> None:
    """Write what belongs to the records, and remove what a pack that goes on needs."""
    keys = _keys(plan, journal.rows)
    if plan.people:
        people.finish(aside, plan, journal, keys)
    else:
        _write_index(aside / packed_images.INDEX, keys, journal.begins())
    _write_table(aside / (people.TABLE if plan.people else packed_images.TABLE), plan, journal.rows, keys)
    for path in plan.lists:
        (aside / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / path, aside / path)
    if plan.align:
        with (aside / WITHOUT_FACE).open("w", encoding="utf-8", newline="") as stream:
            lines = [(path, row.problem) for path, row in zip(plan.paths, journal.rows, strict=True) if row.problem]
            csv.writer(stream, lineterminator="\n").writerows([("path", "problem"), *lines])
    with journal.records.open("rb") as stream:
        os.fsync(stream.fileno())
    for name in (JOURNAL, _LOCK):
        (aside / name).unlink()


def _keys(plan: Plan, rows: Sequence[Row]) -> list[int]:
    """Return the key of each row's record, -1 if it has none: of people 1, 2, ..., of a test set the row."""
    if not plan.people:
        return [-1 if row.problem else number for number, row in enumerate(rows)]
    counted = np.cumsum([not row.problem for row in rows])
    return [-1 if row.problem else int(key) for key, row in zip(counted, rows, strict=True)]


def _write_index(path: Path, keys: Sequence[int], begins: Sequence[int]) -> None:
    with path.open("w", encoding="ascii", newline="") as stream:
        stream.writelines(f"{key}\t{begin}\n" for key, begin in zip(keys, begins, strict=True) if key >= 0)


def _write_table(path: Path, plan: Plan, rows: Sequence[Row], keys: Sequence[int]) -> None:
    columns: dict[str, Any] = {"key": np.array(keys, np.int64), "path": list(plan.paths), **plan.columns}
    if plan.people:
        columns["label"] = np.array([row.label for row in rows], np.int64)
    if plan.align:
        names = ("left", "top", "width", "height", "detector_score")
        columns |= {name: [(row.face or {}).get(name) for row in rows] for name in names}
    columns["problem"] = [row.problem or None for row in rows]
    pq.write_table(pa.table(columns), path)


def _first(plan: Plan, rows: Sequence[Row]) -> str:
    return f"the first is {plan.paths[0]}: {rows[0].problem}" if rows else "there are none"
