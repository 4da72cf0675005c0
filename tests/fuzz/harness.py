"""Reads mutated files and says which broke a promise: a crash, a hang, memory, a name that was executed, items lost in silence.

A worker process reads file after file; another looks after it, because a reader may end or stop its process. A file that
reaches lines of ours that none had reached becomes a file to mutate.
"""

from __future__ import annotations

import contextlib
import gc
import mmap
import os
import pickle
import random
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from stages.core.errors import InputError, OperationError
from tests.fuzz import canary, mutations
from tests.fuzz.mutations import Mutate
from tests.support import ROOT

HANG_S = 2.0
"""Of processor time, which other work on the machine does not lengthen."""
DEAF_S = 120.0
"""A worker that says nothing for so long hangs in a library, where no signal is heard."""
MEMORY_FACTOR, MEMORY_BYTES = 2, 32 << 20
"""A reader may take so many times its input's size, and so many bytes more."""
ROOM_BYTES = 2 << 30
"""Of addresses: what asks for more is refused by the system."""
WATCHED = 6
"""Of so many files the lines of one are watched: it takes five times as long."""
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


@dataclass
class Found:
    """What a target came to."""

    inputs: int = 0
    accepted: int = 0
    corpus: int = 0
    seconds: float = 0.0
    findings: dict[str, bytes] = field(default_factory=dict)
    """The smallest file of each kind of finding."""

    def add(self, what: str, data: bytes) -> None:
        """Keep the smallest file of a finding."""
        if what not in self.findings or len(data) < len(self.findings[what]):
            self.findings[what] = data


class TooLong(BaseException):
    """A reader took more processor time than it may; not an Exception, which a reader may catch."""


def fuzz(target: Target, seed: int, *, inputs: int, seconds: float) -> Found:
    """Read mutated files until there were so many, or for so long; workers that end are followed by others."""
    found, begun_s, round_ = Found(), time.monotonic(), 0
    while found.inputs < inputs and (left_s := seconds - (time.monotonic() - begun_s)) > 0:
        with tempfile.TemporaryDirectory() as name:
            _one_worker(target, Path(name), f"{seed}:{target.name}:{round_}", found, inputs - found.inputs, left_s)
        round_ += 1
    found.seconds = time.monotonic() - begun_s
    return found


def _one_worker(target: Target, folder: Path, seed: str, found: Found, inputs: int, seconds: float) -> None:
    """Fork a worker and take in what it finds; one that dies has died of the file that it was reading."""
    shared = mmap.mmap(-1, 8)
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ours)
        code = 1
        try:
            Worker(target, folder, seed, shared, theirs).run(inputs, seconds)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(theirs)
    ended = ""
    with os.fdopen(ours, "rb") as stream:
        while select.select([stream], [], [], DEAF_S)[0]:
            if not (line := stream.readline()):
                break
            _take_in(line, folder, found)
        else:
            os.kill(pid, signal.SIGKILL)
            ended = "hang: no signal is heard"
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status) and not ended:
        ended = f"the process ended by signal {os.WTERMSIG(status)}"
    elif status and not ended:
        raise RuntimeError(f"the worker of {target.name} failed")
    if ended:
        found.inputs += int.from_bytes(shared[:8], "little")
        found.add(ended, (folder / "set" / target.file).read_bytes())


def _take_in(line: bytes, folder: Path, found: Found) -> None:
    kind, _, rest = line.decode().rstrip("\n").partition(" ")
    if kind == "done":
        inputs, accepted, corpus = map(int, rest.split())
        found.inputs, found.accepted, found.corpus = found.inputs + inputs, found.accepted + accepted, max(found.corpus, corpus)
    elif kind == "found":
        number, _, what = rest.partition(" ")
        found.add(what, (folder / number).read_bytes())


def read_again(target: Target, files: Sequence[bytes]) -> list[Verdict]:
    """Return what becomes of files, each read by a process of its own."""
    found = []
    for data in files:
        ours, theirs = os.pipe()
        with tempfile.TemporaryDirectory() as folder:
            pid = os.fork()
            if pid == 0:
                judge = Judge(target, Path(folder) / "set")
                judge.prepare()
                limit = _address_space() + ROOM_BYTES
                resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
                os.write(theirs, pickle.dumps(judge.read(data))[:60000])
                os._exit(0)
            os.close(theirs)
            with os.fdopen(ours, "rb") as stream:
                said = stream.read() if select.select([stream], [], [], DEAF_S)[0] else b""
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            status = os.waitpid(pid, 0)[1]
        found.append(pickle.loads(said) if said else Verdict(False, False, (f"the process ended with status {status}",)))
    return found


class Worker:
    """Reads mutated files, one after the other."""

    def __init__(self, target: Target, folder: Path, seed: str, shared: mmap.mmap, out: int) -> None:
        self.target, self.folder, self.shared, self.out = target, folder, shared, out
        self.random = random.Random(seed)
        self.judge = Judge(target, folder / "set")
        self.said: Counter[str] = Counter()

    def run(self, inputs: int, seconds: float) -> None:
        """Read so many files, or for so long."""
        os.environ["PYTHONWARNINGS"] = "ignore"
        warnings.simplefilter("ignore")
        corpus = self.judge.prepare()
        with Path(os.devnull).open("w") as nowhere:  # libraries print what they think of a damaged image
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        limit = _address_space() + ROOM_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        sound, accepted, until_s = list(corpus), 0, time.monotonic() + seconds
        number, alive_s = 0, time.monotonic()
        while number < inputs and time.monotonic() < until_s:
            number += 1
            self.shared[:8] = number.to_bytes(8, "little")
            data, was_cut_of = self._next(corpus, sound)
            verdict = self.judge.read(data, was_cut_of, watch_lines=number % WATCHED == 0)
            accepted += verdict.accepted
            if verdict.is_new and len(corpus) < 3000 and len(data) <= 4 * max(map(len, sound)):
                corpus.append(data)
            for problem in verdict.problems:
                self._say(problem, data)
            if time.monotonic() - alive_s > 1:
                gc.collect()
                self._write("alive")
                alive_s = time.monotonic()
        self._write(f"done {number} {accepted} {len(corpus)}")

    def _next(self, corpus: Sequence[bytes], sound: Sequence[bytes]) -> tuple[bytes, bytes | None]:
        """Return a file, and the sound one that it is the beginning of."""
        if self.random.random() < 0.05:
            whole = self.random.choice(sound)
            return mutations.cut(self.random, whole, sound), whole
        # the later ones were reached by more mutations
        data = corpus[max(self.random.randrange(len(corpus)), self.random.randrange(len(corpus)))]
        for _ in range(self.random.choice((1, 1, 1, 2, 3, 5))):
            try:
                data = self.random.choice(self.target.mutate)(self.random, data, sound)
            except Exception:  # a mutation that knows the format meets what others left of it
                data = mutations.of_bytes(self.random, data, sound)
        return data, None

    def _say(self, problem: str, data: bytes) -> None:
        self.said[problem] += 1
        if self.said[problem] <= 20:  # the smallest of them is kept
            number = f"{sum(self.said.values())}.found"
            (self.folder / number).write_bytes(data)
            self._write(f"found {number} {problem}")

    def _write(self, line: str) -> None:
        os.write(self.out, line.replace("\n", " ").encode("utf-8", "replace")[:2000] + b"\n")


@dataclass(frozen=True)
class Verdict:
    """What became of one file."""

    accepted: bool
    is_new: bool
    problems: tuple[str, ...] = ()
    refusal: str = ""


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


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _reset_peak() -> int:
    """Let the peak of this process's memory begin anew, and return the memory that it has now."""
    Path("/proc/self/clear_refs").write_text("5")
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
