"""`python -m benchmarks.gpu` on a CPU: every part runs, and nothing that goes wrong costs what was measured before."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from benchmarks.gpu import heads, parts
from benchmarks.gpu.__main__ import PARTS
from benchmarks.gpu.bench import Item, halving, rows
from benchmarks.gpu.results import Results, Row, render
from stages.runtime import plugins
from tests.support import ROOT

FAR = time.monotonic() + 10**6


@contextlib.contextmanager
def started(out: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    environment = {
        **os.environ, "FACET_DEVICE": "cpu", "OMP_NUM_THREADS": "1", "CXX": "/nowhere/g++",
        "TORCHINDUCTOR_CACHE_DIR": str(out / "cache"),
    }  # fmt: skip
    command = [sys.executable, "-m", "benchmarks.gpu", "--dry", "--out", str(out), *options]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stdout=pipe, stderr=subprocess.STDOUT) as process:
        try:
            yield process
        finally:
            process.kill()


def written(out: Path) -> list[dict[str, Any]]:
    lines = (out / "results.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_part_measures_and_a_missing_compiler_is_a_row(tmp_path: Path):
    with started(tmp_path) as process:
        said = process.communicate(timeout=500)[0]
    assert process.returncode == 0, said
    found = written(tmp_path)
    assert {row["part"] for row in found} == set(PARTS)
    bad = [row for row in found if row["part"] != "compiled" and any(w in row["verdict"] for w in ("failed", "not run", "WRONG"))]
    assert not bad
    # this one has no compiler: the reason is its row, and the exit code says nothing of it
    (compiled,) = [row for row in found if row["part"] == "compiled"]
    assert compiled["verdict"].startswith("failed: ")
    assert "compiler" in compiled["verdict"].lower()
    (resumed,) = [row for row in found if row["part"] == "resume"]
    assert 0 < resumed["numbers"]["resumed_after"] < 64
    assert resumed["numbers"]["difference"] == 0
    assert [row["what"] for row in found if row["part"] == "heads"][:-1] == plugins.names("heads")
    table = (tmp_path / "table.md").read_text()
    assert f"torch {torch.__version__}" in table
    assert table.count("\n| ") == len(found) - 2 + 1  # a header; the machine's rows stand above
    assert table in said


@pytest.mark.slow
def test_what_was_measured_stays_when_it_is_killed_and_its_processes_end(tmp_path: Path):
    with started(tmp_path, "--parts", "heads", "steps") as process:
        begin = time.monotonic()
        while not (tmp_path / "results.jsonl").is_file() or len(written(tmp_path)) < 3:
            assert process.poll() is None
            assert time.monotonic() - begin < 200
            time.sleep(0.05)
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        assert len(children) >= 2
        psutil.wait_procs(children, timeout=20)
        assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    found = written(tmp_path)
    assert [row["part"] for row in found[:3]] == ["machine", "machine", "heads"]
    assert f"| heads | {found[2]['what']} |" in (tmp_path / "table.md").read_text()


def test_a_full_memory_or_an_error_is_a_row_and_the_next_is_measured():
    def fail(error: Exception) -> Row:
        raise error

    items = [
        Item("large", lambda: fail(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."))),
        Item("new", lambda: fail(NotImplementedError("no kernel"))),
        Item("small", lambda: Row("fine")),
    ]
    found = list(rows("steps", items, FAR))
    assert [row.verdict for row in found[:2]] == [
        "failed: the GPU's memory is full (CUDA out of memory. Tried to allocate 20.00 GiB): out of memory",
        "failed: NotImplementedError: no kernel",
    ]
    assert (found[2].result, found[2].part, found[2].what) == ("fine", "steps", "small")


def test_after_an_error_of_the_gpu_itself_and_after_its_time_a_part_measures_no_more():
    def fail() -> Row:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    ran: list[str] = []
    items = [Item("first", fail), Item("second", lambda: ran.append("second") or Row())]
    found = list(rows("steps", items, FAR))
    assert found[0].verdict.startswith("failed: the GPU failed: CUDA error: an illegal memory access")
    assert found[1].verdict == "not run: the GPU is in error since"
    late = list(rows("steps", items, time.monotonic() - 1))
    assert [row.verdict for row in late] == ["not run: no time left"] * 2
    assert not ran


def test_a_batch_is_halved_until_it_fits():
    tried: list[int] = []

    def measure(batch: int) -> Row:
        tried.append(batch)
        if batch > 128:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return Row(str(batch))

    assert halving(512, measure).result == "128"
    assert tried == [512, 256, 128]
    with pytest.raises(torch.OutOfMemoryError):
        halving(32, lambda batch: measure(1024))
    with pytest.raises(RuntimeError, match="shape"):
        halving(512, lambda batch: (_ for _ in ()).throw(RuntimeError("shape is wrong")))


def test_a_part_that_hangs_or_dies_is_ended_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parts, "END_S", 1.0)
    for work, said in ((sleep, "stopped after 2 s"), (die, "failed: its process ended with -9")):
        monkeypatch.setattr(parts, "work", work)
        results = Results(tmp_path, dry=True)
        parts.measure("steps", results, 1.0, time.monotonic() + 100, dry=False)
        assert [(row.what, row.verdict) for row in results.rows] == [("began", ""), ("the rest", said)]
    parts.measure("steps", results, 1.0, time.monotonic() - 1, dry=False)
    assert results.rows[-1].verdict == "not run: no time left"


def began(sender: Any) -> None:
    sender.send(None)
    sender.send(Row(part="steps", what="began"))


def sleep(*of: Any) -> None:
    began(of[-1])
    time.sleep(60)


def die(*of: Any) -> None:
    began(of[-1])
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_head_that_is_not_in_the_list_is_measured_with_its_defaults():
    assert set(heads.FIELDS) == set(plugins.names("heads"))


def test_a_wrong_result_is_found_in_the_table(tmp_path: Path):
    results = Results(tmp_path, dry=False)
    results.add(Row("1.0", verdict="ok", part="heads", what="a"))
    assert not results.wrong
    results.add(Row("loss | 9", verdict="WRONG: loss", part="heads", what="b"))
    assert [row.what for row in results.wrong] == ["b"]
    assert r"| heads | b | loss \| 9 |  | WRONG: loss |" in render(results.rows, dry=False)
    assert "Dry run" not in render(results.rows, dry=False)


@pytest.fixture(autouse=True)
def on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACET_DEVICE", "cpu")
