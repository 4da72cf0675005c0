"""Writes RecordIO files with their index, byte for byte as mxnet's MXIndexedRecordIO does."""

from __future__ import annotations

from array import array
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from stages.core.errors import InputError
from stages.core.recordio.framing import frame

_BUFFER_BYTES = 1 << 20


class RecordWriter:
    """Context manager that writes a record file and its index, in the order of the calls.

    Files are written in place, and what was written before an error stays there: write aside and move.
    """

    def __init__(self, rec_path: Path | str, idx_path: Path | str) -> None:
        self.rec_path, self.idx_path = Path(rec_path), Path(idx_path)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._rec = stack.enter_context(self.rec_path.open("wb", buffering=_BUFFER_BYTES))
            self._idx = stack.enter_context(self.idx_path.open("w", newline="", encoding="ascii"))
            self._stack = stack.pop_all()
        self._end, self._keys = 0, array("q")
        self._highest: int | None = None
        self._seen: set[int] | None = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def write(self, key: int, payload: bytes | memoryview) -> int:
        """Append a record and return its offset in bytes.

        Raises:
            ValueError: the key was written before, or the payload has 2**29 bytes or more.
        """
        self._refuse_repeated(key)
        framed, offset = frame(payload), self._end
        self._rec.write(framed)
        self._idx.write(f"{key}\t{offset}\n")
        self._end += len(framed)
        return offset

    def _refuse_repeated(self, key: int) -> None:
        # rising keys need no set: one over six million keys takes half a gigabyte
        if self._highest is None or key > self._highest:
            self._highest = key
        else:
            if self._seen is None:
                self._seen = set(self._keys)
            if key in self._seen:
                raise InputError(f"{self.rec_path}: key {key} was already written: keys must be unique")
        self._keys.append(key)
        if self._seen is not None:
            self._seen.add(key)
