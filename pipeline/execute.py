"""Reproduces stages one process each, with their lines as they come, and ends them all when asked."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from pipeline import environment
from pipeline.forker import Forker, Job, unpack
from pipeline.graph import Graph, Stage
from pipeline.leases import Lease
from pipeline.reproduce import GRACE_S, Outcome

LINGER_S = 2.0
"""How long output is read after the result: something that a stage left behind may hold the pipe for ever."""
KILL_AFTER_S = GRACE_S + 5.0

Say = Callable[[str], None]


class Executor:
    """Starts processes that reproduce stages; may be used from several threads."""

    def __init__(self, root: Path, jobs: int) -> None:
        self.root = root
        self.forker = Forker(root)
        self.threads_per_stage = max(1, environment.num_cores() // jobs)
        self.lock = threading.Lock()
        self.running: set[int] = set()
        self.stop_asked_s: float | None = None

    def read_graph(self) -> Graph:
        """Read the graph and what is stale in a process of its own; no stage of ours may run meanwhile."""
        graph = self.forker.start("read_graph", {}).wait()
        assert isinstance(graph, Graph)
        return graph

    def run(self, stage: Stage, lease: Lease, say: Say) -> Outcome:
        """Reproduce ``stage`` on the leased device, calling ``say`` with each line; give the lease back."""
        logs = environment.log_folder(self.root)
        logs.mkdir(parents=True, exist_ok=True)
        for suffix in (".log", ".jsonl"):
            with contextlib.suppress(FileNotFoundError):
                (logs / f"{stage.name}{suffix}").replace(logs / f"{stage.name}.previous{suffix}")
        with lease, (logs / f"{stage.name}.log").open("w", encoding="utf-8") as log:
            if self.stop_asked_s is not None:
                return Outcome("stopped", "stopped before it began")
            job = self.forker.start(
                "reproduce",
                {
                    "address": stage.address,
                    "queue_path": str(environment.state_folder(self.root) / "dvc-queue.lock"),
                },
                self._environment(stage, lease),
                keep=[lease.descriptor],
            )
            with self.lock:
                self.running.add(job.pid)
            try:
                return self._follow(job, log, say)
            finally:
                with self.lock:
                    self.running.discard(job.pid)
                job.close()

    def stop_all(self) -> None:
        """Send SIGTERM to all stages, which may take ``GRACE_S`` to keep what they have; start no other."""
        self.stop_asked_s = self.stop_asked_s or time.monotonic()
        with self.lock:
            for pid in self.running:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)

    def close(self) -> None:
        """End the forking process, and with it all that still runs."""
        self.forker.close()

    def _environment(self, stage: Stage, lease: Lease) -> dict[str, str]:
        threads = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(self.threads_per_stage)}
        log_file = environment.log_folder(self.root) / f"{stage.name}.jsonl"
        return threads | lease.device.environment | {"FACET_LOG_FILE": str(log_file)}

    def _follow(self, job: Job, log: TextIO, say: Say) -> Outcome:
        """Pass lines on until the process has answered and its output is at its end."""
        lines = _Lines(log, say)
        answer = bytearray()
        deadline_s: float | None = None
        with selectors.DefaultSelector() as selector:
            selector.register(job.output, selectors.EVENT_READ)
            selector.register(job.result, selectors.EVENT_READ)
            while selector.get_map() and (deadline_s is None or time.monotonic() < deadline_s):
                self._kill_if_deaf(job)
                for key, _ in selector.select(timeout=0.5):
                    data = os.read(key.fd, 1 << 16)
                    if not data:
                        selector.unregister(key.fd)
                        if key.fd == job.result:
                            deadline_s = time.monotonic() + LINGER_S
                    elif key.fd == job.output:
                        lines.feed(data)
                    else:
                        answer += data
        lines.end()
        outcome = self._outcome(bytes(answer), job.pid)
        if outcome.state == "failed" and lines.last:
            # what the program said last says more than how it ended
            return replace(outcome, message=f"{lines.last} ({outcome.message})")
        return outcome

    def _outcome(self, answer: bytes, pid: int) -> Outcome:
        try:
            outcome = unpack(answer, pid)
        except (RuntimeError, ValueError, LookupError, OSError) as error:
            return Outcome("failed" if self.stop_asked_s is None else "stopped", str(error))
        assert isinstance(outcome, Outcome)
        return outcome

    def _kill_if_deaf(self, job: Job) -> None:
        if self.stop_asked_s is None:
            return
        # a job that began while we were asking did not hear it; a second SIGTERM is ignored
        job.stop(signal.SIGKILL if time.monotonic() - self.stop_asked_s > KILL_AFTER_S else signal.SIGTERM)


class _Lines:
    """Cuts bytes into lines; a progress bar that rewrites its line counts as its last state."""

    def __init__(self, log: TextIO, say: Say) -> None:
        self.log, self.say = log, say
        self.rest = b""
        self.last = ""

    def feed(self, data: bytes) -> None:
        *complete, self.rest = (self.rest + data).split(b"\n")
        for line in complete:
            self._pass_on(line)

    def end(self) -> None:
        if self.rest:
            self._pass_on(self.rest)

    def _pass_on(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip("\r").rpartition("\r")[2].rstrip()
        if text:
            self.log.write(text + "\n")
            self.log.flush()
            self.say(text)
            self.last = text
