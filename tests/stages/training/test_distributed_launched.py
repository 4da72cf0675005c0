"""Starting several processes on one machine: what each is told, and what is said when one of them fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from stages.core.errors import OperationError
from stages.training import distributed
from tests.stages import small_training


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return small_training.prepare(tmp_path, monkeypatch, small_training.PROCESS_VARIABLES)


@pytest.mark.parametrize(("rank", "size"), [("1", "1"), ("x", "2"), ("2", "2")])
def test_a_rank_that_cannot_be_is_refused(rank: str, size: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(ValueError, match="RANK and WORLD_SIZE should be numbers"):
        distributed.rank_and_size()


LAUNCHED = """
import os, signal, sys, time
rank, way = os.environ["RANK"], sys.argv[1]
print(f"line of {rank}", file=sys.stderr, flush=True)
if way == "fine":
    assert os.environ["WORLD_SIZE"] == "2" and os.environ["LOCAL_RANK"] == rank and int(os.environ["MASTER_PORT"])
elif way in ("one fails", "one is stuck") and rank == "1":
    time.sleep(0.2)
    print("error: what went wrong", file=sys.stderr)
    sys.exit(2)
elif way == "one is stuck" and rank == "0":  # as in a kernel of NCCL
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(1000)
elif way == "one is killed" and rank == "1":
    os.kill(os.getpid(), signal.SIGKILL)
elif way == "one is stopped" and rank == "1":
    os.kill(os.getpid(), signal.SIGSTOP)
elif way == "one is stopped" and rank == "0":  # as in a collective
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(1000)
elif way == "one loses the other" and rank == "0":
    time.sleep(0.1)
    sys.exit(1)
elif way == "one loses the other":
    time.sleep(0.4)
    print("error: the cause", file=sys.stderr)
    sys.exit(2)
else:
    time.sleep(100)
"""


def launch(way: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "launched.py").write_text(LAUNCHED)
    monkeypatch.setenv("PYTHONPATH", str(project))
    monkeypatch.setattr(distributed, "GRACE_S", 1.0)
    distributed.launch("launched", [way], 2)


def test_started_processes_get_what_torchrun_would_give_them_and_the_first_is_heard(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    launch("fine", project, monkeypatch)
    assert capsys.readouterr().err == "line of 0\n"


def test_when_one_process_fails_the_others_are_ended_and_its_sentence_is_shown_once(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as left:
        launch("one fails", project, monkeypatch)
    assert left.value.code == 2
    assert capsys.readouterr().err.count("error: what went wrong") == 1


def test_a_process_that_no_signal_reaches_is_killed_soon_after_another_has_failed(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(distributed, "END_S", 1000.0)  # for a checkpoint, which one alone cannot write
    monkeypatch.setattr(distributed, "STUCK_S", 0.2)
    with pytest.raises(SystemExit) as left:
        launch("one is stuck", project, monkeypatch)
    assert left.value.code == 2
    assert "error: what went wrong" in capsys.readouterr().err


def test_the_process_that_says_why_is_believed_before_those_that_lost_it(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as left:
        launch("one loses the other", project, monkeypatch)
    assert left.value.code == 2
    assert "error: the cause" in capsys.readouterr().err


def test_a_process_that_was_killed_is_named_with_its_signal(project: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ValueError, match="process 1 of 2 was killed by SIGKILL: out of memory"):
        launch("one is killed", project, monkeypatch)


def test_a_process_that_is_stopped_ends_all_with_a_sentence(project: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(distributed, "STOPPED_S", 0.5)
    monkeypatch.setattr(distributed, "STUCK_S", 0.2)
    monkeypatch.setattr(distributed, "END_S", 1000.0)
    others = psutil.Process().children()
    began_s = time.monotonic()
    with pytest.raises(OperationError, match=r"process 1 of 2 \(pid [0-9]+\) is stopped for 0.5 s, by SIGSTOP"):
        launch("one is stopped", project, monkeypatch)
    assert time.monotonic() - began_s < 30
    assert set(psutil.Process().children()) <= set(others)


def test_a_process_that_goes_on_in_time_is_let_be(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(distributed, "STOPPED_S", 4 * distributed._POLL_S)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"]) as process:
        asleep = distributed._Asleep([type("One", (), {"process": process})])  # type: ignore[list-item]
        for number in (signal.SIGSTOP, signal.SIGCONT) * 3:
            os.kill(process.pid, number)
            while distributed._is_stopped(process.pid) != (number == signal.SIGSTOP):
                time.sleep(0.001)
            for _ in range(3):
                asleep.look()
        process.kill()
