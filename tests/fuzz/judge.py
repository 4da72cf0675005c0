"""Reads one file and says which promise its reader broke: a crash, a hang, memory, a name that was executed, items lost in silence."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from stages.core.errors import InputError, OperationError
from tests.fuzz import canary
from tests.fuzz.mutations import Mutate
from tests.support import ROOT

HANG_S = 2.0
"""Of processor time, which other work on the machine does not lengthen."""
MEMORY_FACTOR, MEMORY_BYTES = 2, 32 << 20
"""A reader may take so many times its input's size, and so many bytes more."""
OURS = str(ROOT / "stages") + os.sep, str(ROOT / "pipeline") + os.sep
_NUMBER = re.compile(r"0x[0-9a-f]+|[0-9]+|'[^']*'")
EXECUTED = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect", "os.remove", "pickle.find_class")


@dataclass(frozen=True)
class Target:
    """A reader, and a file that it reads."""

    name: str
    file: str
    """The file that is mutated, in the reader's folder."""
    build: Callable[[Path], list[bytes]]
    """Fills the folder with a sound set and returns contents of the file to begin with; the first is that of the set."""
    read: Callable[[Path], int | None]
    """Reads all that the folder holds, and returns how many items; None: they cannot be counted."""
    mutate: Sequence[Mutate]
    count: Callable[[bytes], int | None] = lambda data: None
    """How many items a file has, counted without the reader; None: nobody can say."""
    whole: bool = True
    """A file that was cut short must be refused, or read whole."""


@dataclass(frozen=True)
class Verdict:
    """What became of one file."""

    accepted: bool
    is_new: bool
    problems: tuple[str, ...] = ()
    refusal: str = ""


class TooLong(BaseException):
    """A reader took more processor time than it may; not an Exception, which a reader may catch."""


class Judge:
    """Reads a file with a target's reader, and says what it broke."""

    def __init__(self, target: Target, folder: Path) -> None:
        self.target, self.folder = target, folder
        self.executed: list[str] = []
        self.armed = False
        self.lines: set[tuple[Any, int]] = set()
        self.new = False

    def prepare(self) -> list[bytes]:
        """Fill the folder and read what is sound; return that."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        seeds = self.target.build(self.folder)
        sys.addaudithook(self._audit)
        signal.signal(signal.SIGPROF, _too_long)
        for seed in [*seeds, seeds[0]]:  # libraries are imported, and fill their caches
            (self.folder / self.target.file).write_bytes(seed)
            self.target.read(self.folder)
        for seed in seeds:
            problems = self.read(seed).problems
            if problems:
                raise RuntimeError(f"{self.target.name}: a sound file is not read: {problems}")
        return seeds

    def read(self, data: bytes, was_cut_of: bytes | None = None, *, watch_lines: bool = True) -> Verdict:
        """Return what becomes of a file; whether it reached new lines is known where these are watched."""
        path = self.folder / self.target.file
        path.write_bytes(data)
        canary.rung.clear()
        self.executed.clear()
        self.new = False
        before = _reset_peak()
        count, problem, refusal = None, "", ""
        try:
            with self._watched(watch_lines):
                count = self.target.read(self.folder)
        except TooLong:
            problem = f"hang: over {HANG_S:g} s"
        except (InputError, OperationError, OSError) as error:
            refusal = str(error) or type(error).__name__
        except BaseException as error:
            problem = f"{type(error).__name__} at {_place(error)}: {_NUMBER.sub('N', str(error))[:60]}"
        over = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before - MEMORY_FACTOR * len(data) - MEMORY_BYTES
        problems = [problem] if problem else []
        if over > 0:
            problems.append(f"memory: over {MEMORY_FACTOR} times the file's size and {MEMORY_BYTES >> 20} MiB")
        problems += [f"executed: {what}" for what in dict.fromkeys(self.executed)]
        if canary.rung:
            problems.append("executed: a function that the file names")
        if not problem and not refusal:
            problems += self._lost(count, data, was_cut_of)
        return Verdict(not problem and not refusal, self.new, tuple(problems), refusal)

    def _lost(self, count: int | None, data: bytes, was_cut_of: bytes | None) -> Iterator[str]:
        """Yield whether a file that was read has other items than the reader returned."""
        wanted = self.target.count(data)
        if was_cut_of is not None and self.target.whole and data != was_cut_of and wanted is None:
            wanted = self.target.count(was_cut_of) if self.target.count(was_cut_of) is not None else self._count_of(was_cut_of)
        if count is not None and wanted is not None and count != wanted:
            yield "shortened: " + ("fewer" if count < wanted else "more") + " items than the file has, and no word of it"

    def _count_of(self, data: bytes) -> int | None:
        (self.folder / self.target.file).write_bytes(data)
        return self.target.read(self.folder)

    @contextlib.contextmanager
    def _watched(self, watch_lines: bool) -> Iterator[None]:
        self.armed = True
        signal.setitimer(signal.ITIMER_PROF, HANG_S)
        if watch_lines:
            sys.settrace(self._enter)
        try:
            yield
        finally:
            sys.settrace(None)
            signal.setitimer(signal.ITIMER_PROF, 0)
            self.armed = False

    def _enter(self, frame: FrameType, event: str, argument: object) -> Any:
        """Watch the lines of functions of ours."""
        return self._line if frame.f_code.co_filename.startswith(OURS) else None

    def _line(self, frame: FrameType, event: str, argument: object) -> Any:
        place = frame.f_code, frame.f_lineno
        if place not in self.lines:
            self.lines.add(place)
            self.new = True
        return self._line

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.armed:
            return
        if event in EXECUTED:
            self.executed.append(f"{event} {str(arguments)[:60]}")
        elif event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
            self.executed.append(f"opens a file to write: {str(arguments[0])[-60:]}")


def _too_long(number: int, frame: FrameType | None) -> None:
    raise TooLong


def _place(error: BaseException) -> str:
    """Return the last line of ours that an error passed."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [one for one in frames if one.filename.startswith(OURS)]
    last = (own or frames)[-1]
    return f"{last.filename.removeprefix(str(ROOT) + os.sep)}:{last.lineno}"


def _reset_peak() -> int:
    """Let the peak of this process's memory begin anew, and return the memory that it has now."""
    Path("/proc/self/clear_refs").write_text("5")
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
