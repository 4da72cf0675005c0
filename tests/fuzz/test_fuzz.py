"""What the fuzzer promises to find is found, and files that found something are read as they should be."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stages.core.errors import InputError
from tests.fuzz import harness, judge, mutations
from tests.fuzz.judge import Target
from tests.support import ROOT

FOUND = Path(__file__).with_name("found")
WHOLE = b"one\ntwo\nthree\nfour\n"


def spin(data: bytes) -> int:
    while True:
        pass


def die(data: bytes) -> int:
    os.kill(os.getpid(), signal.SIGUSR1)
    return 0


def fill(data: bytes) -> int:
    # far over the bound: the kernel may take other pages of a large process of tests away meanwhile
    return len(os.urandom(1) * (judge.MEMORY_BYTES + (512 << 20))) and 4


def load(data: bytes) -> int:
    pickle.loads(b"ctests.fuzz.canary\nring\n(tR.")
    return 4


def remove(data: bytes) -> int:
    Path("not-there").unlink(missing_ok=True)
    return 4


def shorten(data: bytes) -> int:
    return data.count(b"\n")


def raise_a_bug(data: bytes) -> int:
    raise KeyError(f"at {len(data)}")


def refuse(data: bytes) -> int:
    raise InputError("not four lines")


def target(read: Callable[[bytes], int]) -> Target:
    def build(folder: Path) -> list[bytes]:
        (folder / "f").write_bytes(WHOLE)
        return [WHOLE]

    def read_file(folder: Path) -> int:
        data = (folder / "f").read_bytes()
        return 4 if data == WHOLE else read(data)

    return Target("a reader", "f", build, read_file, (mutations.of_bytes, mutations.of_text))


@pytest.mark.parametrize(
    ("read", "what"),
    [
        (spin, "hang: over"), (die, "the process ended by signal 10"), (fill, "memory: over 2 times"),
        (load, "executed: a function that the file names"), (remove, "executed: os.remove"), (shorten, "shortened: fewer items"),
        (raise_a_bug, "KeyError at tests/fuzz/test_fuzz.py"),
    ],
)  # fmt: skip
def test_what_a_reader_must_not_do_is_found(read: Callable[[bytes], int], what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if read is spin:
        monkeypatch.setattr(judge, "HANG_S", 0.1)
    found = harness.fuzz(target(read), 1, inputs=60 if read is shorten else 3, seconds=150)
    assert any(what in one for one in found.findings), found.findings
    assert found.inputs >= 3


def test_a_reader_that_refuses_is_right() -> None:
    found = harness.fuzz(target(refuse), 1, inputs=200, seconds=30)
    assert (found.inputs, found.findings) == (200, {})


def test_a_deaf_reader_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    def sleep(data: bytes) -> int:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPROF})
        time.sleep(60)
        return 4

    monkeypatch.setattr(harness, "DEAF_S", 0.3)
    found = harness.fuzz(target(sleep), 1, inputs=1, seconds=30)
    assert set(found.findings) == {"hang: no signal is heard"}


def test_the_same_seed_gives_the_same_files() -> None:
    seen: list[list[bytes]] = []
    for _ in range(2):
        found = harness.fuzz(target(raise_a_bug), 7, inputs=30, seconds=30)
        seen.append(sorted(found.findings.values()))
    assert seen[0] == seen[1]


@pytest.mark.slow
def test_files_that_found_something_are_refused_in_a_sentence_or_read() -> None:
    done = subprocess.run([sys.executable, "-m", "tests.fuzz", "--again", str(FOUND)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ok  ") == sum(path.is_file() for path in FOUND.rglob("*"))
