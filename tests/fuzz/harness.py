"""Has worker processes read mutated files, one after the other, and keeps what each target came to.

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
import resource
import select
import signal
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz import mutations
from tests.fuzz.judge import Judge, Target, Verdict

DEAF_S = 120.0
"""A worker that says nothing for so long hangs in a library, where no signal is heard."""
ROOM_BYTES = 2 << 30
"""Of addresses: what asks for more is refused by the system."""
WATCHED = 6
"""Of so many files the lines of one are watched: it takes five times as long."""


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
                _limit_addresses()
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
        _limit_addresses()
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


def _limit_addresses() -> None:
    """Leave this process so much room, beside what it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
