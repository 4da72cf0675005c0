"""Journal of a record file that is being written: a killed pack goes on at the image that it had reached."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self, TextIO

from stages.core.recordio.framing import frame
from stages.runtime import files

JOURNAL = "journal.jsonl"
FLUSH_EVERY = 256  # images; a kill loses at most so many


@dataclass(frozen=True, slots=True)  # there may be millions
class Row:
    """One image that is done."""

    end: int
    """Where its record ends in the file; where the one before ends, if it has none."""
    stamp: str
    """Size and time of the picture: it is packed again if these changed."""
    label: float = -1.0
    problem: str = ""
    """Why it has no record; empty if it has one."""
    face: dict[str, float] | None = None
    """Box and detector's score, if it was aligned here."""

    def line(self, number: int) -> str:
        """Return the line of the journal that stands for the row of this number."""
        return json.dumps([number, self.end, self.stamp, self.label, self.problem, self.face]) + "\n"


class Journal:
    """Record file that is appended to, and the rows of what is in it, in the order of the images.

    Args:
        folder: where both are.
        records: name of the record file.
        key: of what is packed and how: a journal with another key is begun anew.
        head: first bytes of the record file.
        stamps: of the images, in order; rows are kept up to the first image that changed.
    """

    def __init__(self, folder: Path, records: str, key: str, head: bytes, stamps: Sequence[str]) -> None:
        self.path, self.records = folder / JOURNAL, folder / records
        self.key, self.head = key, head
        self.rows = list(self._kept(stamps))
        self.end = self.rows[-1].end if self.rows else len(head)
        self._written = 0  # rows in the journal
        self._is_sound = True
        """Every write has come to its end: a second try would write again what the first one has written of it."""

    def __enter__(self) -> Self:
        self._records: BinaryIO = self.records.open("r+b" if self.rows else "wb")
        if not self.rows:
            self._records.write(self.head)
        self._records.truncate(self.end)
        self._records.seek(self.end)
        # written anew, because its last line may be half a line
        with files.replacing(self.path) as aside, aside.open("w", encoding="ascii") as stream:
            stream.write(json.dumps({"key": self.key}) + "\n")
            stream.writelines(row.line(number) for number, row in enumerate(self.rows))
        self._written = len(self.rows)
        self._lines: TextIO = self.path.open("a", encoding="ascii")
        return self

    def __exit__(self, *error: object) -> None:
        try:
            if self._is_sound:
                self._flush()
        finally:
            with suppress(OSError):  # of what a failed write left behind, which the next pack cuts off
                self._records.close()
            self._lines.close()

    def add(self, payload: bytes | None, stamp: str, **more: Any) -> None:
        """Append a record, None for an image without one, and its row."""
        framed = b"" if payload is None else frame(payload)
        self._is_sound = False
        self._records.write(framed)
        self._is_sound = True
        self.end += len(framed)
        row = Row(self.end, stamp, **more)
        self.rows.append(row)
        if len(self.rows) - self._written >= FLUSH_EVERY:
            self._flush()

    def begins(self) -> list[int]:
        """Return where the record of each row begins."""
        return [len(self.head), *(row.end for row in self.rows[:-1])] if self.rows else []

    def _flush(self) -> None:
        # the records first: a line says that its record is there
        self._is_sound = False
        self._records.flush()
        first, self._written = self._written, len(self.rows)
        self._lines.writelines(row.line(number) for number, row in enumerate(self.rows[first:], first))
        self._lines.flush()
        self._is_sound = True

    def _kept(self, stamps: Sequence[str]) -> Iterator[Row]:
        if not (self.path.is_file() and self.records.is_file()):
            return
        size = self.records.stat().st_size
        with self.path.open(encoding="ascii") as stream:
            if next(stream, "") != json.dumps({"key": self.key}) + "\n":
                return
            for wanted, (line, stamp) in enumerate(zip(stream, stamps, strict=False)):
                try:
                    number, end, known, label, problem, face = json.loads(line)
                except ValueError:
                    return  # it was being written
                if number != wanted or known != stamp or end > size:
                    return
                yield Row(end, stamp, label, problem, face)


def stamp_of(path: Path) -> str:
    """Return size and time of a file; "missing" if it is not there."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return "missing"
    return f"{status.st_size} {status.st_mtime_ns}"


def key_of(*parts: Any) -> str:
    """Return a key of what is packed and how."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(os.fsencode(json.dumps(part, default=str)) + b"\n")
    return digest.hexdigest()
