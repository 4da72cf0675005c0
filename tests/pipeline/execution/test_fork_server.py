"""The process that forks, asked for jobs that are not DVC's: many locks to keep, much to say."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.execution.fork_server import MAX_DESCRIPTORS, OWN_DESCRIPTORS, Forker
from tests.pipeline.dummy import Dummy

MORE_THAN_A_PIPE = 100_000


@pytest.fixture
def forker(tmp_path: Path) -> Iterator[Forker]:
    with Forker(tmp_path) as started:
        yield started


@pytest.fixture
def locks(tmp_path: Path) -> Iterator[list[int]]:
    """The locks of a node with more GPUs than most."""
    opened = [os.open(tmp_path / f"gpu{i}.lock", os.O_CREAT | os.O_RDWR) for i in range(16)]
    yield opened
    for each in opened:
        os.close(each)


def num_open(forker: Forker, keep: list[int]) -> int:
    """Return how many files a job has open that keeps these."""
    return len(forker.start("call", {"function": "os:listdir", "path": "/proc/self/fd"}, keep=keep).wait())


def test_a_job_keeps_every_lock_of_a_large_lease(forker: Forker, locks: list[int]) -> None:
    assert num_open(forker, locks) == num_open(forker, []) + len(locks)


def test_a_lease_is_refused_rather_than_cut(forker: Forker, locks: list[int]) -> None:
    with pytest.raises(RuntimeError, match=f"can hold at most {MAX_DESCRIPTORS - OWN_DESCRIPTORS} locks, got {MAX_DESCRIPTORS}"):
        num_open(forker, locks[:1] * MAX_DESCRIPTORS)
    before = resource.prlimit(forker.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(forker.process.pid, resource.RLIMIT_NOFILE, (20, before[1]))
    with pytest.raises(RuntimeError, match="cannot open 19 more files: raise `ulimit -n`"):
        num_open(forker, locks)
    resource.prlimit(forker.process.pid, resource.RLIMIT_NOFILE, before)
    assert num_open(forker, locks) > len(locks)


def test_a_job_has_an_environment_of_any_size(forker: Forker) -> None:
    large = {f"FIELD_{i}": "x" * 120_000 for i in range(9)} | {"NOT_UTF_8": os.fsdecode(b"\xfc")}
    job = forker.start("call", {"function": "os:getenv", "key": "FIELD_8"}, large)
    assert job.wait() == large["FIELD_8"]
    assert forker.start("call", {"function": "os:getenv", "key": "NOT_UTF_8"}, large).wait() == "\udcfc"


@pytest.mark.timeout(60)
def test_a_job_may_say_more_than_a_pipe_holds_while_its_result_is_waited_for(forker: Forker) -> None:
    assert forker.start("call", {"function": "builtins:print", "end": "x" * MORE_THAN_A_PIPE}).wait() is None


def test_a_bug_in_a_job_shows_where_it_is_in_its_output_and_in_what_is_raised(forker: Forker) -> None:
    job = forker.start("call", {"function": "json:loads", "s": None})
    printed = b"".join(job.events()).decode()
    assert printed.startswith("Traceback (most recent call last):\n")
    assert "json/__init__.py" in printed
    with pytest.raises(RuntimeError, match="a bug in facet or a library: TypeError") as caught:
        job.value()
    assert printed in caught.value.__notes__
    job.close()


def test_what_a_person_can_mend_is_no_bug(forker: Forker) -> None:
    job = forker.start("call", {"function": "os:listdir", "path": "/no/such/folder"})
    assert b"".join(job.events()) == b""
    with pytest.raises(FileNotFoundError, match="/no/such/folder"):
        job.value()
    job.close()


LATE = '''\
import sys
from pathlib import Path

from pipeline.execution import reproduce


def reproduced(address: str) -> list[str]:
    """Reproduce a stage, and return what that imported."""
    before = set(sys.modules)
    result = reproduce.reproduce(Path.cwd(), address, Path(".facet/queue.lock"))
    assert result.state == "executed", result
    return sorted(set(sys.modules) - before)
'''


def test_a_job_imports_nothing_that_the_fork_server_could_have_imported(make_dummy: Callable[..., Dummy]) -> None:
    project = make_dummy(1)
    (project.path / "late.py").write_text(LATE)
    with Forker(project.path) as forker:
        for address in ("resolve", "unpack", "graph/train_backbone/dvc.yaml:train_backbone@r0"):
            assert forker.start("call", {"function": "late:reproduced", "address": address}).wait() == []
