"""Stages that hang, are killed or ask for another try, on real processes."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from pipeline.devices.leases import Device, try_lease
from pipeline.execution.executor import Executor, Patience
from pipeline.execution.stage_result import StageResult
from tests.pipeline.dummy import Dummy, alive

QUICK = Patience(silent_s=None, retries=2, pause_s=0.1)


@pytest.fixture
def project(make_dummy: Callable[..., Dummy]) -> Dummy:
    return make_dummy(1)


@pytest.fixture
def reproduce(project: Dummy) -> Iterator[Callable[[Patience], tuple[StageResult, list[str]]]]:
    """Reproduce `unpack` with so much patience; return the outcome and the lines it said."""
    executors: list[Executor] = []

    def run(patience: Patience) -> tuple[StageResult, list[str]]:
        executors.append(Executor(project.path, 1, patience=patience))
        stage = next(s for s in executors[-1].read_graph().stages.values() if s.name == "unpack")
        lease = try_lease(Device("cpu:0"), project.path / "leases")
        assert lease is not None
        lines: list[str] = []
        return executors[-1].run(stage, lease, lines.append), lines

    yield run
    for executor in executors:
        executor.close()


def kill_the_first(project: Dummy, number: int) -> threading.Thread:
    """Kill the program of `unpack` when it first runs, and let it be quick from then on."""

    def kill() -> None:
        pid = project.wait_for("unpack")["pid"]
        project.slow_down()
        os.kill(pid, number)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


@pytest.mark.parametrize("shell", ["/bin/bash", "/bin/sh"])
def test_a_killed_stage_is_tried_again(
    project: Dummy,
    reproduce: Callable[[Patience], tuple[StageResult, list[str]]],
    monkeypatch: pytest.MonkeyPatch,
    shell: str,
) -> None:
    monkeypatch.setenv("SHELL", shell)
    project.slow_down(unpack=60)
    killer = kill_the_first(project, signal.SIGKILL)
    outcome, lines = reproduce(QUICK)
    killer.join()
    assert outcome.state == "executed"
    assert project.counts() == {"unpack": 2}
    assert project.counts("end") == {"unpack": 1}
    ending = {"/bin/bash": "exited with -9", "/bin/sh": "exited with 137"}[shell]
    assert any(ending in line and line.endswith("trying again, 1 of 2") for line in lines)


def test_a_stage_that_a_person_ended_is_not_tried_again(
    project: Dummy, reproduce: Callable[[Patience], tuple[StageResult, list[str]]]
) -> None:
    project.slow_down(unpack=60)
    killer = kill_the_first(project, signal.SIGTERM)
    outcome, _ = reproduce(QUICK)
    killer.join()
    assert (outcome.state, outcome.temporary) == ("failed", False)
    assert project.counts() == {"unpack": 1}


def test_input_that_cannot_be_used_is_not_tried_again(
    project: Dummy, reproduce: Callable[[Patience], tuple[StageResult, list[str]]]
) -> None:
    project.tell_to("fail", "unpack")
    assert reproduce(QUICK)[0].state == "failed"
    assert project.counts() == {"unpack": 1}


def test_a_stage_that_says_it_may_help_is_tried_again_and_no_oftener_than_told(
    project: Dummy, reproduce: Callable[[Patience], tuple[StageResult, list[str]]]
) -> None:
    program = project.path / "work.py"
    program.write_text(program.read_text().replace("sys.exit(2)", "sys.exit(75)"))
    project.tell_to("fail", "unpack")
    outcome, lines = reproduce(QUICK)
    assert outcome.state == "failed"
    assert outcome.message == "error: unpack was told to fail (exited with 75)"
    assert project.counts() == {"unpack": 3}
    assert [line[-6:] for line in lines if "trying again" in line] == ["1 of 2", "2 of 2"]


@pytest.mark.slow
@pytest.mark.parametrize("deaf", [False, True])
def test_a_stage_that_hangs_is_ended_and_tried_again(
    project: Dummy,
    reproduce: Callable[[Patience], tuple[StageResult, list[str]]],
    monkeypatch: pytest.MonkeyPatch,
    deaf: bool,
) -> None:
    monkeypatch.setenv("FACET_GRACE_S", "1")
    project.slow_down(unpack=60)
    if deaf:
        project.tell_to("ignore-sigterm", "unpack")
    outcome, _ = reproduce(Patience(silent_s=1.5, retries=1, pause_s=0.1))
    assert (outcome.state, outcome.message) == (
        "failed", "hung: no output and no measurement for 0.025 minutes"
    )  # fmt: skip
    assert project.counts() == {"unpack": 2}
    assert project.counts("stopped") == ({} if deaf else {"unpack": 2})
    assert not any(alive(entry["pid"]) for entry in project.journal())


@pytest.mark.slow
def test_a_stage_that_measures_does_not_hang_though_it_says_nothing(
    project: Dummy, reproduce: Callable[[Patience], tuple[StageResult, list[str]]]
) -> None:
    program = project.path / "work.py"
    text = program.read_text().replace(
        "time.sleep(seconds)",
        "for i in range(20):\n    time.sleep(seconds / 20)\n    open(os.environ['FACET_LOG_FILE'], 'a').write('{}\\n')",
    )
    program.write_text(text)
    project.slow_down(unpack=4)
    outcome, _ = reproduce(Patience(silent_s=1.0, retries=0))
    assert outcome.state == "executed"


@pytest.mark.slow
def test_waiting_for_another_process_is_not_hanging(
    project: Dummy, reproduce: Callable[[Patience], tuple[StageResult, list[str]]]
) -> None:
    project.slow_down(unpack=4)
    other = project.start_program("dvc", "repro", "--single-item", "unpack")
    project.wait_for("unpack")
    outcome, _ = reproduce(Patience(silent_s=1.0, retries=0))
    assert other.wait(timeout=30) == 0
    assert outcome == StageResult("unchanged")
    assert project.counts() == {"unpack": 1}


def test_what_dvc_could_not_record_is_recorded_later_and_not_made_again(
    project: Dummy, reproduce: Callable[[Patience], tuple[StageResult, list[str]]]
) -> None:
    # a file where the cache's folder should be stands for a full disk
    blocked = project.path / "blocked"
    blocked.touch()
    (project.path / ".dvc/config.local").write_text(f"[cache]\n    dir = {blocked}\n")
    outcome, lines = reproduce(QUICK)
    assert outcome.state == "failed"
    assert lines[-1].endswith("its outputs are kept: the next run commits them")
    blocked.unlink()
    again, _ = reproduce(QUICK)
    assert (again.state, again.message) == ("restored", "outputs of an earlier attempt were committed")
    assert project.counts() == {"unpack": 1}
    assert project.lock_entries() == {"unpack"}
    assert reproduce(QUICK)[0] == StageResult("unchanged")


def test_what_was_kept_and_then_touched_is_made_again(
    project: Dummy, reproduce: Callable[[Patience], tuple[StageResult, list[str]]]
) -> None:
    blocked = project.path / "blocked"
    blocked.touch()
    (project.path / ".dvc/config.local").write_text(f"[cache]\n    dir = {blocked}\n")
    assert reproduce(QUICK)[0].state == "failed"
    blocked.unlink()
    (project.path / "data/unpacked.txt").write_text("edited")
    assert reproduce(QUICK)[0].state == "executed"
    assert project.counts() == {"unpack": 2}
    assert "edited" not in (project.path / "data/unpacked.txt").read_text()


EDITED_BETWEEN = """
from pathlib import Path
from pipeline.execution import deferred_commit, reproduce
record = deferred_commit.record
def record_and_edit(root, repo, address):
    done = record(root, repo, address)
    params = root / "params.yaml"
    params.write_text(params.read_text().replace("data: 1", "data: 2"))
    return done
deferred_commit.record = record_and_edit
outcome = reproduce.reproduce(Path.cwd(), "unpack", Path(".facet/dvc-queue.lock"))
print(outcome.state, outcome.command_s > 0)
"""


def test_a_program_that_runs_after_what_was_kept_is_recorded_counts_as_run(
    project: Dummy, reproduce: Callable[[Patience], tuple[StageResult, list[str]]]
) -> None:
    blocked = project.path / "blocked"
    blocked.touch()
    (project.path / ".dvc/config.local").write_text(f"[cache]\n    dir = {blocked}\n")
    assert reproduce(QUICK)[0].state == "failed"
    blocked.unlink()
    # its input is edited in the moment in which DVC has recorded the old one's result
    done = project.run(sys.executable, "-c", EDITED_BETWEEN)
    assert done.stdout.splitlines()[-1] == "executed True"
    assert project.counts() == {"unpack": 2}
