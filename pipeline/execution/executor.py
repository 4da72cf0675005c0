"""Runs stages, one process each: streams their output, detects hangs, retries, and stops them all on request."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from pipeline.base import environment
from pipeline.devices import leases
from pipeline.devices.leases import Lease, Pool
from pipeline.execution.fork_server import Forker
from pipeline.execution.graph import Graph, Stage, num_gpus
from pipeline.execution.job import Job
from pipeline.execution.stage_log import MEASUREMENTS, Note, StageLog
from pipeline.execution.stage_result import StageResult
from pipeline.execution.stopping import GRACE_S

LINGER_S = 2.0
"""How long output is read after the result: a process that a stage left behind may keep the pipe open."""
KILL_AFTER_S = GRACE_S + 5.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class Patience:
    """Retry policy: when a stage counts as hung, and how often it is tried again."""

    silent_s: float | None = 1800.0
    """End a stage after this many seconds without output or measurement; None: never."""
    retries: int = 2
    """Extra attempts for a stage that was killed, crashed, hung or reported that a retry may help."""
    pause_s: float = 5.0
    """Seconds before the first retry, doubled for each further one."""


class Executor:
    """Starts processes that reproduce stages; may be used from several threads."""

    def __init__(
        self,
        root: Path,
        jobs: int,
        per_device: int = 1,
        patience: Patience | None = None,
        slot_folder: Path | None = None,
        forker: Forker | None = None,
    ) -> None:
        """Start the fork server, if there is none yet.

        Args:
            root: of the project.
            jobs: stages at a time.
            per_device: stages at a time on one GPU.
            patience: with stages that hang or are killed.
            slot_folder: for the locks of CPU slots; default: the project's.
            forker: a fork server of ``root`` that runs already; it is closed with this.
        """
        self.root, self.jobs, self.per_device = root, jobs, per_device
        self.patience = patience or Patience()
        self.slot_folder = slot_folder or environment.state_folder(root) / "leases"
        self.forker = forker or Forker(root)
        self.threads_per_stage = max(1, environment.num_cores() // jobs)
        self.lock = threading.Lock()
        self.running: set[int] = set()
        self.stop_asked_s: float | None = None

    def read_graph(self) -> Graph:
        """Read the graph and its stale stages in a separate process; no stage may run at the same time."""
        graph = self.forker.start("read_graph", {}).wait()
        assert isinstance(graph, Graph)
        return graph

    def devices(self) -> Pool:
        """Return the devices on which stages may run here."""
        return Pool(leases.find_gpus(), self.jobs, self.slot_folder, per_device=self.per_device)

    def expect(self, graph: Graph, stages: Sequence[Stage]) -> None:
        """Take the graph, and what is to be done of it; here each stage is run when its turn comes."""

    def try_lease(self, devices: Pool, stage: Stage) -> Lease | None:
        """Return a lease of the device that ``stage`` needs, or None while there is none for it."""
        wanted = num_gpus(self.root, stage) if devices.gpus else 1
        return devices.try_lease(stage.needs_device, wanted)

    def run(self, stage: Stage, lease: Lease, say: Say) -> StageResult:
        """Reproduce ``stage`` on the leased device, call ``say`` with each output line, and return the lease."""
        log = StageLog(environment.log_folder(self.root), stage.name)
        with lease:
            lines = _Lines(log, say)
            outcome = self._attempt(stage, lease, lines)
            for retry in range(1, self.patience.retries + 1):
                if not outcome.temporary or not self._pause(self.patience.pause_s * 2 ** (retry - 1)):
                    break
                lines.note(f"{outcome.message}: trying again, {retry} of {self.patience.retries}")
                outcome = self._attempt(stage, lease, lines)
            log.close(outcome.state == "failed")
            return outcome

    def _pause(self, seconds: float) -> bool:
        """Wait before a retry; return False if everything is to stop."""
        until_s = time.monotonic() + seconds
        while self.stop_asked_s is None and time.monotonic() < until_s:
            time.sleep(0.05)
        return self.stop_asked_s is None

    def _attempt(self, stage: Stage, lease: Lease, lines: _Lines) -> StageResult:
        if self.stop_asked_s is not None:
            return StageResult("stopped", "stopped before it began")
        queue_path = str(environment.state_folder(self.root) / "dvc-queue.lock")
        job = self.forker.start(
            "reproduce",
            {"address": stage.address, "queue_path": queue_path},
            self._environment(lease) | {MEASUREMENTS: str(lines.log.measurements)},
            keep=lease.descriptors,
        )
        with self.lock:
            self.running.add(job.pid)
        try:
            return self._follow(job, lines)
        finally:
            with self.lock:
                self.running.discard(job.pid)
            job.close()

    def stop_all(self) -> None:
        """Send SIGTERM to all stages, which get ``GRACE_S`` to save their state; start no others."""
        self.stop_asked_s = self.stop_asked_s or time.monotonic()
        with self.lock:
            for pid in self.running:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)

    def close(self) -> None:
        """Stop the fork server and every process that still runs."""
        self.forker.close()

    def _environment(self, lease: Lease) -> dict[str, str]:
        threads = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(self.threads_per_stage)}
        return threads | lease.device.environment

    def _follow(self, job: Job, lines: _Lines) -> StageResult:
        """Pass output lines on until the process has answered and its output has ended."""
        deadline_s: float | None = None
        watch = _SilenceWatch(job, self.patience.silent_s, lines.log.measurements)
        for data in job.events(every_s=0.5):
            self._kill_if_deaf(job, watch.hung_s)
            if data:
                watch.heard()
                lines.feed(data)
            if job.over and deadline_s is None:
                # without an answer it was killed, and its program may take its time to end
                deadline_s = time.monotonic() + (LINGER_S if job.answer else KILL_AFTER_S)
            if deadline_s is not None and time.monotonic() >= deadline_s:
                break
            watch.look()
        lines.end()
        outcome = self._outcome(job)
        if watch.hung_s is not None and not outcome.good and self.stop_asked_s is None:
            return StageResult("failed", watch.verdict, outcome.command_s, temporary=True)
        if outcome.state == "failed" and lines.last:
            # what the program said last says more than how it ended
            return replace(outcome, message=f"{lines.last} ({outcome.message})")
        return outcome

    def _outcome(self, job: Job) -> StageResult:
        try:
            outcome = job.value()
        except (RuntimeError, ValueError, LookupError, OSError) as error:
            if self.stop_asked_s is not None:
                return StageResult("stopped", str(error))
            return StageResult("failed", str(error), temporary=not job.answer)
        assert isinstance(outcome, StageResult)
        return outcome

    def _kill_if_deaf(self, job: Job, hung_s: float | None) -> None:
        asked_s = min((at_s for at_s in (self.stop_asked_s, hung_s) if at_s is not None), default=None)
        if asked_s is None:
            return
        # a job that began while we were asking did not hear it; a second SIGTERM is ignored
        job.stop(signal.SIGKILL if time.monotonic() - asked_s > KILL_AFTER_S else signal.SIGTERM)


class _SilenceWatch:
    """Detects a stage whose program has produced no output line and no measurement for too long."""

    def __init__(self, job: Job, silent_s: float | None, measurements: Path) -> None:
        self.job, self.silent_s, self.measurements = job, silent_s, measurements
        self.hung_s: float | None = None
        """When the hang was detected, by the monotonic clock."""
        self.verdict = f"hung: no output and no measurement for {(silent_s or 0) / 60:.3g} minutes"
        self.heard_s = time.monotonic()

    def heard(self) -> None:
        """Record that the stage produced output."""
        self.heard_s = time.monotonic()

    def look(self) -> None:
        """Decide whether the stage hangs."""
        if self.silent_s is None or self.hung_s is not None or time.monotonic() - self.heard_s < self.silent_s:
            return
        with contextlib.suppress(FileNotFoundError):
            if time.time() - self.measurements.stat().st_mtime < self.silent_s:
                return
        # DVC itself says nothing while it waits for a lock, hashes or moves files: that is not the program's silence
        if not _has_children(self.job.pid):
            self.heard()
            return
        self.hung_s = time.monotonic()


def _has_children(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).children())
    except psutil.NoSuchProcess:
        return False


class _Lines:
    """Splits bytes into lines; a progress bar that rewrites its line counts as its last state."""

    def __init__(self, log: StageLog, say: Say) -> None:
        self.log, self.say = log, say
        self.rest = b""
        self.last = ""

    def feed(self, data: bytes) -> None:
        *complete, self.rest = (self.rest + data).split(b"\n")
        for line in complete:
            self._pass_on(line)

    def note(self, text: str) -> None:
        """Print a line of our own; the next attempt starts without any."""
        self.log.append(text)
        self.say(Note(text))
        self.last = ""

    def end(self) -> None:
        if self.rest:
            self._pass_on(self.rest)
        self.rest = b""

    def _pass_on(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip("\r").rpartition("\r")[2].rstrip()
        if text:
            self.log.append(text)
            self.say(text)
            self.last = text
