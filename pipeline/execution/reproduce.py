"""Reproduces one stage with DVC, in a process that the fork server made, as `dvc repro --single-item` would.

Three things differ from the command line. Processes of ours queue for DVC's lock in the kernel, where DVC
polls twice a second; a stage on which another process works is waited for, where DVC gives up at once; and
SIGTERM ends the stage's program and all it started before it ends this process, where DVC would leave the
program running.
"""

from __future__ import annotations

import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

from pipeline.execution import deferred_commit, dvc_patches, stage_log
from pipeline.execution.dvc_patches import QueuedLock
from pipeline.execution.stage_result import StageResult
from pipeline.execution.stopping import StopError, Stopping

RETRY_S = 0.5
EX_TEMPFAIL = 75


def reproduce(root: Path, address: str, queue_path: Path) -> StageResult:
    """Bring the stage at ``address`` up to date for its current inputs; ``root`` must be the working directory.

    The process must be one that may be ended: this takes over its signals.
    """
    stopping = Stopping()
    stopping.install()
    try:
        outcome = _reproduce_patiently(root, address, queue_path, stopping)
    except StopError:
        outcome = StageResult("stopped", "stopped before it started")
    for command in stopping.end_descendants():
        _say(f"killed a process that the stage left running: {command}")
    return outcome


def may_help_to_retry(ending: str) -> bool:
    """Return whether a program that ended like this may succeed on a retry, from where it was.

    That is one which was killed by a signal, but for those by which a person ends it (SIGTERM, SIGINT), or said
    itself that its trouble passes (75, EX_TEMPFAIL of sysexits.h). A shell in between says 128 + N for signal N.

    >>> [may_help_to_retry(f"exited with {code}") for code in (-9, 137, 139, 75)]
    [True, True, True, True]
    >>> [may_help_to_retry(f"exited with {code}") for code in (1, 2, -15, 143, 130)]
    [False, False, False, False, False]
    """
    found = re.fullmatch(r"exited with (-?\d+)", ending)
    if found is None:
        return False
    code = int(found[1])
    number = -code if code < 0 else code - 128
    return code == EX_TEMPFAIL or (number > 0 and number not in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))


def in_full(error: BaseException) -> str:
    r"""Return DVC's message without colours, with the system error that DVC may hide (a full disk, for example).

    >>> in_full(ValueError("no \x1b[36mlink\x1b[39m types")), in_full(OSError(28, "No space left on device"))
    ('no link types', '[Errno 28] No space left on device')
    """
    told: list[str] = []
    one: BaseException | None = error
    while one is not None:
        text = re.sub("\x1b\\[[0-9;]*m", "", str(one))
        if one is error or isinstance(one, OSError):
            told += [text] if text and text not in " ".join(told) else []
        one = one.__cause__ or one.__context__
    return ": ".join(told) or type(error).__name__


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _reproduce_patiently(root: Path, address: str, queue_path: Path, stopping: Stopping) -> StageResult:
    """Reproduce; while another process works on the same files, wait and try again."""
    said = False
    while (outcome := _reproduce_once(root, address, queue_path, stopping)) is None:
        if not said:
            _say(f"{address}: waiting for another process that is working on it")
            said = True
        stopping.waiting = True
        stopping.check()
        time.sleep(RETRY_S)
        stopping.waiting = False
    return outcome


def _reproduce_once(root: Path, address: str, queue_path: Path, stopping: Stopping) -> StageResult | None:
    """Return how it ended; None if it did not begin because the files are busy."""
    from dvc.exceptions import DvcException

    repo = _open(root, queue_path, stopping, address)
    lock: QueuedLock = repo.lock
    try:
        recorded = deferred_commit.record(root, repo, address)
        if recorded:
            repo.close()
            repo = _open(root, queue_path, stopping, address)
            lock = repo.lock  # of the repository that runs the command, if one runs after all
        done = repo.reproduce(address, single_item=True)
        missing = deferred_commit.uncached(done[0]) if lock.command_ran else ""
    except (DvcException, OSError) as error:
        result = _failed(error, lock, stopping.asked)
        if result is not None and result.state == "failed" and lock.command_ran and not _is_of_command(error):
            return _kept(root, address, queue_path, stopping, result)
        return result
    finally:
        repo.close()
    if missing:
        why = f"DVC's cache did not take {missing}: is its disk full?"
        return _kept(root, address, queue_path, stopping, StageResult("failed", why, lock.command_s))
    deferred_commit.forget(root, address)
    if recorded and not done:
        return StageResult("restored", "outputs of an earlier attempt were committed")
    if not done:
        return StageResult("unchanged")
    return StageResult("executed", "", lock.command_s) if lock.command_ran else StageResult("restored")


def _is_of_command(error: BaseException) -> bool:
    """Whether the stage's own program failed, and not DVC."""
    from dvc.stage.exceptions import StageCmdFailedError

    return isinstance(error.__cause__ or error, StageCmdFailedError)


def _failed(error: BaseException, lock: QueuedLock, stopped: bool) -> StageResult | None:
    """Return what an error of DVC means; None if it did not begin because the files are busy."""
    from dvc.lock import LockError

    if stopped:
        return StageResult("stopped", "stopped; finished work is kept", lock.command_s)
    if isinstance(error.__cause__ or error, LockError) and not lock.command_ran:
        return None
    if _is_of_command(error):
        ending = str(error.__cause__ or error).rpartition(", ")[2]
        return StageResult("failed", ending, lock.command_s, may_help_to_retry(ending))
    return StageResult("failed", " ".join(in_full(error).split()), lock.command_s)


def _kept(root: Path, address: str, queue_path: Path, stopping: Stopping, result: StageResult) -> StageResult:
    """Have the next run commit what the stage's program has made, if it can be."""
    repo = _open(root, queue_path, stopping, address)
    if deferred_commit.keep(root, repo, address):
        _say(f"{address}: its program succeeded and its outputs are kept: the next run commits them")
    repo.close()
    return result


def _open(root: Path, queue_path: Path, stopping: Stopping, address: str) -> Any:
    """Return a fresh Repo: an old one keeps stale state after a change of the workspace."""

    def begin() -> None:
        deferred_commit.reserve(root, address)
        stage_log.begin()

    repo = dvc_patches.open_repo(root, queue_path, stopping, begin)
    repo.scm_context.quiet = True  # no advice on `git add` after every stage
    return repo
