from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from pipeline.devices.leases import Device, Lease, Pool, try_lease
from pipeline.execution import executor as execute
from pipeline.execution.executor import Executor, Patience
from pipeline.execution.graph import Stage
from pipeline.execution.stage_log import StageLog
from pipeline.execution.stage_result import StageResult
from tests.pipeline.dummy import Dummy, alive, wait_until_dead


@pytest.fixture
def start(make_dummy: Callable[..., Dummy]) -> Iterator[Callable[..., tuple[Dummy, Executor]]]:
    """Make a project and an executor for it, which ends with the test."""
    executors: list[Executor] = []

    def make(runs: int = 1, jobs: int = 1, **arguments: object) -> tuple[Dummy, Executor]:
        project = make_dummy(runs, **arguments)
        executors.append(Executor(project.path, jobs))
        return project, executors[-1]

    yield make
    for executor in executors:
        executor.close()


def lease_of(project: Dummy, name: str = "cpu:0") -> Lease:
    lease = try_lease(Device(name), project.path / "leases")
    assert lease is not None
    return lease


def silent(line: str) -> None:
    """Nobody listens."""


def run(project: Dummy, executor: Executor, name: str, say: Callable[[str], None] = silent) -> StageResult:
    return executor.run(stage_named(executor, name), lease_of(project), say)


def stage_named(executor: Executor, name: str) -> Stage:
    return next(stage for stage in executor.read_graph().stages.values() if stage.name == name)


def in_background(body: Callable[[], StageResult]) -> tuple[threading.Thread, list[StageResult]]:
    outcomes: list[StageResult] = []
    thread = threading.Thread(target=lambda: outcomes.append(body()))
    thread.start()
    return thread, outcomes


def test_a_stage_is_executed_then_unchanged_then_restored(
    start: Callable[..., tuple[Dummy, Executor]],
) -> None:
    project, executor = start(seconds={"unpack": 0.2})
    first = run(project, executor, "unpack")
    assert first.state == "executed"
    assert 0.2 <= first.command_s < 20
    assert run(project, executor, "unpack") == StageResult("unchanged")
    (project.path / "data/unpacked.txt").unlink()
    assert run(project, executor, "unpack") == StageResult("restored")
    assert project.counts() == {"unpack": 1}


def test_lines_come_while_the_stage_runs_and_stay_in_its_log(
    start: Callable[..., tuple[Dummy, Executor]],
) -> None:
    project, executor = start(seconds={"unpack": 1.5})
    lines: list[tuple[float, str]] = []
    run(project, executor, "unpack", lambda line: lines.append((time.monotonic(), line)))
    said = {line: when_s for when_s, line in lines}
    assert said["unpack ends"] - said["unpack begins"] > 1
    log = (project.path / ".facet/logs/unpack.log").read_text().splitlines()
    assert log == [line for _, line in lines]


def test_the_log_of_the_attempt_before_is_kept(start: Callable[..., tuple[Dummy, Executor]]) -> None:
    project, executor = start()
    run(project, executor, "unpack")
    project.write_params(project.params() | {"data": 2})
    project.tell_to("fail", "unpack")
    run(project, executor, "unpack")
    logs = project.path / ".facet/logs"
    assert "unpack ends" in (logs / "unpack.previous.log").read_text()
    assert "unpack ends" not in (logs / "unpack.log").read_text()


def test_a_stage_finds_its_device_its_share_of_threads_and_its_log_file(
    start: Callable[..., tuple[Dummy, Executor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("pipeline.base.environment.num_cores", lambda: 8)
    project, executor = start(jobs=3)
    unpack = stage_named(executor, "unpack")
    lease = try_lease(Device("gpu:1", "1", "GPU-bb"), project.path / "leases")
    assert lease is not None
    executor.run(unpack, lease, silent)
    noted = project.journal()[0]
    assert (noted["device"], noted["cuda"], noted["threads"]) == ("gpu:1", "1", "2")
    assert noted["log"] == os.path.realpath(project.path / ".facet/logs/unpack.jsonl")


def test_a_users_number_of_threads_is_kept(
    start: Callable[..., tuple[Dummy, Executor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    project, executor = start()
    run(project, executor, "unpack")
    assert project.journal()[0]["threads"] == "5"


def test_a_failure_is_told_in_the_words_of_the_stage(start: Callable[..., tuple[Dummy, Executor]]) -> None:
    project, executor = start()
    project.tell_to("fail", "unpack")
    assert run(project, executor, "unpack") == StageResult(
        "failed", "error: unpack was told to fail (exited with 2)", pytest.approx(0, abs=20)
    )
    assert project.lock_entries() == set()


def test_a_stage_whose_input_is_missing_fails_before_it_runs(
    start: Callable[..., tuple[Dummy, Executor]],
) -> None:
    project, executor = start()
    outcome = run(project, executor, "train_backbone@r0")
    assert outcome.state == "failed"
    assert "data/unpacked.txt" in outcome.message
    assert project.counts() == {}


def test_parallel_stages_leave_every_lock_entry_and_run_once(
    start: Callable[..., tuple[Dummy, Executor]],
) -> None:
    project, executor = start(runs=6, jobs=4, seconds={"train_backbone": 0.3})
    pool = Pool([], 4, project.path / "leases")
    for stages in (["resolve", "unpack"], [f"train_backbone@r{i}" for i in range(6)]):
        graph = executor.read_graph()
        chosen = [stage for stage in graph.stages.values() if stage.name in stages]
        with ThreadPoolExecutor(4) as threads:
            outcomes = list(threads.map(lambda s: executor.run(s, pool.lease(False), silent), chosen))
        assert {outcome.state for outcome in outcomes} == {"executed"}
    assert project.lock_entries() == {"resolve", "unpack", *(f"train_backbone@r{i}" for i in range(6))}
    assert set(project.counts().values()) == {1}


def test_a_stage_on_which_another_process_works_is_waited_for(
    start: Callable[..., tuple[Dummy, Executor]],
) -> None:
    project, executor = start(seconds={"unpack": 4})
    other = project.start_program("dvc", "repro", "--single-item", "unpack")
    project.wait_for("unpack")
    lines: list[str] = []
    assert run(project, executor, "unpack", lines.append) == StageResult("unchanged")
    assert lines[0] == "unpack: waiting for another process that is working on it"
    assert other.wait(timeout=30) == 0
    assert project.counts() == {"unpack": 1}


@pytest.mark.parametrize("shell", ["/bin/bash", "/bin/sh"])  # sh ends at once, and the program behind it is still saving
def test_stopping_lets_the_program_of_a_stage_save_its_state(
    start: Callable[..., tuple[Dummy, Executor]], monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    monkeypatch.setenv("SHELL", shell)
    project, executor = start(seconds={"unpack": 60, "stop": 1.5})
    thread, outcomes = in_background(lambda: run(project, executor, "unpack"))
    pid = project.wait_for("unpack")["pid"]
    executor.stop_all()
    thread.join(20)
    assert [outcome.state for outcome in outcomes] == ["stopped"]
    assert not alive(pid)
    assert project.counts("stopped") == {"unpack": 1}
    assert project.lock_entries() == set()


def test_after_stopping_nothing_starts(start: Callable[..., tuple[Dummy, Executor]]) -> None:
    project, executor = start()
    unpack = stage_named(executor, "unpack")
    executor.stop_all()
    assert executor.run(unpack, lease_of(project), silent).state == "stopped"
    assert project.counts() == {}


def test_a_stage_that_ignores_sigterm_is_killed(
    start: Callable[..., tuple[Dummy, Executor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACET_GRACE_S", "1")  # read by the process that is forked
    project, executor = start(seconds={"unpack": 60})
    project.tell_to("ignore-sigterm", "unpack")
    lines: list[str] = []
    thread, outcomes = in_background(lambda: run(project, executor, "unpack", lines.append))
    pid = project.wait_for("unpack")["pid"]
    while "unpack begins" not in lines:
        time.sleep(0.05)
    time.sleep(0.3)  # it sets its handler just after
    executor.stop_all()
    thread.join(20)
    assert [outcome.state for outcome in outcomes] == ["stopped"]
    wait_until_dead(pid)  # the outcome may come before the kernel is done with it
    assert project.counts("stopped") == {}


@pytest.mark.parametrize("shell", ["/bin/bash", "/bin/sh"])  # sh stays between DVC and the program, bash does not
def test_killing_the_process_that_runs_dvc_fails_the_stage_and_ends_its_program(
    start: Callable[..., tuple[Dummy, Executor]], monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    monkeypatch.setenv("SHELL", shell)
    project, executor = start(seconds={"unpack": 60})
    executor.patience = Patience(retries=0)
    thread, outcomes = in_background(lambda: run(project, executor, "unpack"))
    pid = project.wait_for("unpack")["pid"]
    (dvc,) = executor.running
    os.kill(dvc, signal.SIGKILL)
    thread.join(20)
    assert outcomes[0].state == "failed"
    assert "was it killed?" in outcomes[0].message
    wait_until_dead(pid)
    project.slow_down()
    assert run(project, executor, "unpack").state == "executed"


def test_what_a_stage_leaves_running_is_killed(start: Callable[..., tuple[Dummy, Executor]]) -> None:
    project, executor = start()
    path = project.path / "dvc.yaml"
    path.write_text(
        path.read_text().replace("cmd: python work.py unpack", "cmd: sleep 300 & python work.py unpack")
    )
    lines: list[str] = []
    assert run(project, executor, "unpack", lines.append).state == "executed"
    assert lines[-1] == "killed a process that the stage left running: sleep 300"
    children = psutil.Process(executor.forker.process.pid).children(recursive=True)
    assert [child for child in children if alive(child.pid)] == []


def test_a_lease_ends_with_the_stage(start: Callable[..., tuple[Dummy, Executor]]) -> None:
    project, executor = start(seconds={"unpack": 1})
    folder = project.path / "leases"
    lease = lease_of(project)
    thread, _ = in_background(lambda: executor.run(stage_named(executor, "unpack"), lease, silent))
    project.wait_for("unpack")
    assert try_lease(Device("cpu:0"), folder) is None
    # the flow may be gone by now: the process that runs DVC holds on
    lease.release()
    assert try_lease(Device("cpu:0"), folder) is None
    thread.join(20)
    again = try_lease(Device("cpu:0"), folder)
    assert again is not None
    again.release()


def test_a_killed_forker_is_reported_and_takes_its_stages_with_it(
    start: Callable[..., tuple[Dummy, Executor]],
) -> None:
    project, executor = start(seconds={"unpack": 60})
    thread, outcomes = in_background(lambda: run(project, executor, "unpack"))
    pid = project.wait_for("unpack")["pid"]
    executor.forker.process.kill()
    thread.join(20)
    wait_until_dead(pid)
    assert outcomes[0].state in ("stopped", "failed")
    with pytest.raises(RuntimeError, match="the fork server has died"):
        executor.read_graph()


def test_a_progress_bar_counts_as_its_last_state(tmp_path: Path) -> None:
    lines: list[str] = []
    cutter = execute._Lines(StageLog(tmp_path, "log"), lines.append)
    for data in (b"10%\r50%\r10", b"0%\n\nlast", b" words \xff"):
        cutter.feed(data)
    cutter.end()
    assert lines == ["100%", "last words \ufffd"]


def test_the_forker_has_one_thread_when_it_begins_to_fork_and_all_modules_that_it_names(
    make_dummy: Callable[..., Dummy],
) -> None:
    answer = make_dummy(runs=1).run(
        "python",
        "-c",
        "import sys, threading; from pipeline.execution import fork_server; fork_server.import_dvc(); "
        "print(threading.active_count(), set(fork_server.NEEDED) - set(sys.modules))",
    )
    assert answer.stdout.strip() == "1 set()"
