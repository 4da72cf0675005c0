"""All that changes or uses insides of DVC, but for `lock_entries`, which this installs: made for DVC 3.67.

Another release is reported in one sentence (`check`). No other module uses a name of DVC's that begins with an
underscore, which a test holds.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psutil

from pipeline.base import versions
from pipeline.execution import lock_entries
from pipeline.execution.stopping import Stopping

MADE_FOR = "3.67"


def check() -> None:
    """Print a warning if DVC is of another release than this was made for."""
    versions.warn("dvc", MADE_FOR)


def open_repo(
    root: Path,
    queue_path: Path | None = None,
    stopping: Stopping | None = None,
    begin: Callable[[], None] = lambda: None,
) -> Any:
    """Return the project as DVC sees it now, which reads and writes dvc.lock entry by entry.

    Args:
        root: of the project.
        queue_path: file behind which processes queue for DVC's lock; None: they poll for it, as DVC does.
        stopping: whether SIGTERM came.
        begin: called when the program of a stage is about to start.
    """
    from dvc.repo import Repo

    lock_entries.install()
    repo = Repo(str(root), _wait_for_lock=True)
    if queue_path is not None:
        repo.lock = QueuedLock(repo.lock, queue_path, stopping or Stopping(), begin)
    return repo


class QueuedLock:
    """DVC's lock of the repository behind a `flock` of ours, for which the kernel keeps the queue.

    DVC enters it as a context around the whole reproduction, and calls ``unlock`` and ``lock`` itself only
    around the stage's command: so the clock of the command is here too.
    """

    def __init__(self, inner: Any, path: Path, stopping: Stopping, begin: Callable[[], None] = lambda: None) -> None:
        self.inner, self.path, self.stopping, self.begin = inner, path, stopping, begin
        self.descriptor = -1
        self.started_s: float | None = None
        self.command_s = 0.0

    @property
    def is_locked(self) -> bool:
        """Whether this process holds it."""
        return bool(self.inner.is_locked)

    @property
    def command_ran(self) -> bool:
        """Whether the stage's command was started."""
        return self.started_s is not None

    def unlock(self) -> None:
        """Let others work while the command runs; after SIGTERM it does not run."""
        self.stopping.check()
        self.begin()
        self.started_s = time.monotonic()
        self._release()

    def lock(self) -> None:
        """Come back to record what the command made; SIGTERM does not keep us from that."""
        if self.started_s is not None:
            self.command_s = time.monotonic() - self.started_s
        self._acquire()

    def __enter__(self) -> None:
        self.stopping.waiting = True
        try:
            self.stopping.check()
            self._acquire()
        finally:
            self.stopping.waiting = False

    def __exit__(self, *_: object) -> None:
        self._release()

    def _acquire(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX)
            self.inner.lock()
        except BaseException:
            os.close(self.descriptor)
            raise

    def _release(self) -> None:
        self.inner.unlock()
        os.close(self.descriptor)


def paths_being_written(folder: Path) -> dict[str, int]:
    """Return the outputs that live processes write at this moment, from DVC's own record, with their pids."""
    try:
        record = json.loads((folder / "rwlock").read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    writers = {path: int(info["pid"]) for path, info in record.get("write", {}).items()}
    return {path: pid for path, pid in writers.items() if psutil.pid_exists(pid)}


def key(stage: Any) -> str:
    """Return the run cache's name for a stage's command with its inputs; "" if its results cannot be found by them."""
    from dvc.stage.cache import _can_hash, _get_stage_hash

    return str(_get_stage_hash(stage)) if _can_hash(stage) else ""


def is_restorable(stage: Any) -> bool:
    """Return whether the run cache can keep a stage's results, once its dependencies are there."""
    plain = not (stage.is_callback or stage.always_changed) and all([stage.cmd, stage.deps, stage.outs])
    return plain and all(out.protocol == "local" and out.is_in_repo and not out.persist for out in stage.outs)


def value(stage: Any) -> str:
    """Return the run cache's name for a stage's result."""
    from dvc.stage.cache import _get_cache_hash
    from dvc.stage.serialize import to_single_stage_lockfile

    return str(_get_cache_hash(to_single_stage_lockfile(stage)))


def entry(repo: Any, key: str, value: str) -> Any:
    """Return an entry of the run cache, or None."""
    return repo.stage_cache._load_cache(key, value)


def newest_entry(repo: Any, stage: Any) -> Any:
    """Return the entry of the run cache from which DVC would restore a stage, or None."""
    return repo.stage_cache._load(stage)


def entry_path(repo: Any, key: str, value: str) -> Path:
    """Return where the run cache keeps an entry."""
    return Path(repo.stage_cache._get_cache_path(key, value))


def stage_of(repo: Any, entry: Mapping[str, Any], wdir: str | None = None) -> Any:
    """Return a stage that stands for an entry."""
    return repo.stage_cache._create_stage(entry, wdir=wdir)


def as_copies(repo: Any) -> AbstractContextManager[None]:
    """Return a context in which DVC checks out copies, not links into its cache."""
    copies: AbstractContextManager[None] = repo.stage_cache._cache_type_copy()
    return copies
