"""Logs and measurements of a stage: whose they are when two runs want the same stage; real processes of DVC."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.devices.leases import Device, try_lease
from pipeline.execution.executor import Executor
from pipeline.execution.stage_result import StageResult
from tests.pipeline.dummy import Dummy

pytestmark = pytest.mark.slow


@pytest.fixture
def project(make_dummy: Callable[..., Dummy]) -> Dummy:
    return make_dummy(1)


@pytest.fixture
def unpack(project: Dummy) -> Iterator[Callable[[Callable[[str], None]], StageResult]]:
    """Bring `unpack` up to date, each time as a run of its own."""
    executors: list[Executor] = []

    def run(say: Callable[[str], None]) -> StageResult:
        executors.append(executor := Executor(project.path, 1))
        stage = next(s for s in executor.read_graph().stages.values() if s.name == "unpack")
        lease = try_lease(Device(f"cpu:{len(executors)}"), project.path / "leases")
        assert lease is not None
        return executor.run(stage, lease, say)

    yield run
    for executor in executors:
        executor.close()


@pytest.fixture
def logs(project: Dummy) -> Path:
    return project.path / ".facet/logs"


def test_who_waits_for_a_stage_leaves_the_files_of_who_runs_it(
    project: Dummy, logs: Path, unpack: Callable[[Callable[[str], None]], StageResult]
) -> None:
    project.slow_down(unpack=60)
    outcomes: list[StageResult] = []
    said: list[str] = []
    first = threading.Thread(target=lambda: outcomes.append(unpack(said.append)))
    first.start()
    pid = project.wait_for("unpack")["pid"]
    (logs / "unpack.jsonl").write_text('{"step": 1}\n')
    waits = threading.Event()
    heard: list[str] = []

    def hear(line: str) -> None:
        heard.append(line)
        waits.set()

    second = threading.Thread(target=lambda: outcomes.append(unpack(hear)))
    second.start()
    assert waits.wait(60)
    assert heard == ["unpack: waiting for another process that is working on it"]
    project.slow_down()
    time.sleep(0.2)
    assert (logs / "unpack.jsonl").read_text() == '{"step": 1}\n'
    os.kill(pid, signal.SIGTERM)
    first.join(30)
    second.join(60)
    # the first was ended, so the second ran the program after all: now the files are its own
    assert [outcome.state for outcome in outcomes] == ["failed", "executed"]
    assert (logs / "unpack.previous.jsonl").read_text() == '{"step": 1}\n'
    assert not (logs / "unpack.jsonl").exists()
    before = (logs / "unpack.previous.log").read_text().splitlines()
    assert before == said
    assert (logs / "unpack.log").read_text().splitlines() == heard


def test_a_stage_that_needs_no_program_leaves_the_log_of_the_last_time(
    project: Dummy, logs: Path, unpack: Callable[[Callable[[str], None]], StageResult]
) -> None:
    said: list[str] = []
    assert unpack(said.append).state == "executed"
    assert unpack(lambda line: None).state == "unchanged"
    (project.path / "data/unpacked.txt").unlink()
    assert unpack(lambda line: None).state == "restored"
    assert (logs / "unpack.log").read_text().splitlines() == said
    assert not (logs / "unpack.previous.log").exists()


def test_what_keeps_a_program_from_starting_is_in_the_log_behind_the_last_time(
    project: Dummy, logs: Path, unpack: Callable[[Callable[[str], None]], StageResult]
) -> None:
    said: list[str] = []
    assert unpack(said.append).state == "executed"
    path = project.path / "dvc.yaml"
    path.write_text(path.read_text().replace("cmd: python work.py unpack", "deps: [missing.txt]\n    cmd: python work.py unpack"))
    assert unpack(said.append).state == "failed"
    assert (logs / "unpack.log").read_text().splitlines() == said
