"""Simulates several machines on one: clones with their own HOME, cache and leases, joined by three addresses.

A git remote, a DVC remote and Prefect's API: nothing else is common to them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.pipeline import dummy
from tests.pipeline.dummy import Dummy

WHO = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b.c", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b.c"}


class Machine(Dummy):
    """A clone with its own home folder."""

    def __init__(self, folder: Path, api_url: str, extra: Mapping[str, str]) -> None:
        super().__init__(folder / "project", api_url)
        self.name, self.folder, self.extra = folder.name, folder, dict(extra)
        (folder / "home").mkdir(parents=True)

    def environment(self, **extra: str) -> dict[str, str]:
        """Return the environment of a fresh login, plus the servers' addresses."""
        keep = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
        own = {
            "HOME": str(self.folder / "home"),
            "FACET_LEASES": str(self.folder / "leases"),
            "DVC_SITE_CACHE_DIR": str(self.folder / "site"),
            "PREFECT_API_URL": self.api_url or "",
            "PATH": f"{Path(sys.executable).parent}:{keep['PATH']}",
            "FACET_FOLLOW": "0",
            "DUMMY_JOURNAL": str(self.path / "journal.jsonl"),
            "DVC_NO_ANALYTICS": "1",
            "PREFECT_LOGGING_COLORS": "false",
            "COLUMNS": "200",
        }
        return keep | own | WHO | self.extra | extra

    @property
    def worker_log(self) -> Path:
        """What Prefect's worker here printed."""
        return self.folder / "worker.log"

    def start_worker(self, pool: str, *options: str) -> subprocess.Popen[str]:
        """Start Prefect's worker and wait until it has joined the pool."""
        with self.worker_log.open("w") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "pipeline.cli", "worker", "--pool", pool, *options],
                cwd=self.path, env=self.environment(), stdout=out, stderr=out, text=True, start_new_session=True,
            )  # fmt: skip
        until_s = time.monotonic() + 180
        while "started!" not in self.worker_log.read_text():
            if process.poll() is not None or time.monotonic() > until_s:
                end([process])
                raise AssertionError(self.worker_log.read_text())
            time.sleep(0.1)
        return process

    def executed(self) -> Counter[str]:
        """Return how often each stage's program ran on this machine, in its clone or in the workspace of a training run."""
        return self.counts()

    def trees(self) -> list[Path]:
        """Return the workspaces of the training runs that have not been completed here."""
        return [path for path in self.path.glob(".facet/training-runs/*") if path.is_dir()]


@dataclass
class Network:
    """Clones of one project."""

    folder: Path
    api_url: str
    store_url: str
    config: Sequence[tuple[str, str]] = ()
    """More of the DVC remote's settings."""
    extra: Mapping[str, str] = field(default_factory=dict)
    """More of every machine's environment."""

    def found(self, runs: int, seconds: dict[str, float] | None = None) -> None:
        """Create the project and push it to the git remote."""
        self.publish(dummy.make(self.folder / "seed", runs, seconds))

    def publish(self, seed: Dummy) -> None:
        """Push a project to the git remote."""
        seed.run("dvc", "remote", "add", "-q", "-d", "store", self.store_url)
        for name, value in self.config:
            seed.run("dvc", "remote", "modify", "-q", "store", name, value)
        seed.run("git", "init", "-q", "--bare", "-b", "main", str(self.origin))
        for command in (("add", "-A"), ("commit", "-qm", "start"), ("branch", "-M", "main"),
                        ("remote", "add", "origin", str(self.origin)), ("push", "-q", "origin", "main")):  # fmt: skip
            seed.run("git", *command, **WHO)

    @property
    def origin(self) -> Path:
        """Return the git remote."""
        return self.folder / "origin.git"

    def machine(self, name: str) -> Machine:
        """Clone the project onto a new machine."""
        machine = Machine(self.folder / name, self.api_url, self.extra)
        subprocess.run(["git", "clone", "-q", str(self.origin), str(machine.path)], check=True, env=machine.environment())
        return machine

    def references(self) -> list[str]:
        """Return the references on the git remote."""
        listed = subprocess.run(
            ["git", "for-each-ref", "--format=%(refname)"], cwd=self.origin, capture_output=True, text=True, check=True
        )
        return listed.stdout.split()


def end(processes: Sequence[subprocess.Popen[str]]) -> None:
    """Stop workers and what they started as `systemctl stop` would, and wait."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
    for process in processes:
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
