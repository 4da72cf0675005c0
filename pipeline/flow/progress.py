"""Progress of a flow run: snapshots of its work for the terminal, for a file that others read, and for Prefect."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from pipeline.base.workspace import Workspace
from pipeline.board import estimate, snapshot
from pipeline.board.grouping import Place
from pipeline.board.snapshot import RUNNING, Snapshot, StageNow
from pipeline.execution.dvc_lines import is_dvcs
from pipeline.execution.graph import RESOLVE, Stage
from pipeline.execution.stage_result import StageResult
from pipeline.flow.display import Show

EVERY_S = 1.0


@dataclass
class Running:
    """A stage that is running."""

    device: str
    line: str = ""
    """Its last output line."""
    heard: float = 0.0
    began: float = field(default_factory=time.time)

    def say(self, line: str) -> None:
        """Note an output line of the stage's program."""
        if not is_dvcs(line):
            self.line, self.heard = line, time.time()


@dataclass
class Progress:
    """The stages of a flow run: what is to be done, runs and has ended; written by its threads, read by others."""

    expected: dict[str, Stage] = field(default_factory=dict)
    """What is to be done, by address, in an order in which it could run."""
    places: Mapping[str, Place] = field(default_factory=dict)
    running: dict[str, Running] = field(default_factory=dict)
    ended: dict[str, StageResult] = field(default_factory=dict)
    lines: dict[str, str] = field(default_factory=dict)
    """The last output line of stages that have ended."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """How long stages took in earlier runs, by address."""
    jobs: int = 1
    num_devices: int = 1

    def look(self, base: Snapshot) -> Snapshot:
        """Return ``base`` with the stages as they are now."""
        now, usual = time.time(), self._usual()
        stages = tuple(self._now(one, usual) for one in self.expected.values())
        remaining = {address: one for address, one in self.expected.items() if address not in self.ended}
        left_s = {address: _left(usual.get(address), self.running.get(address), now) for address in remaining}
        left = estimate.left(remaining, left_s, self.jobs, self.num_devices)
        if len(remaining) > 1 and any(one.name == RESOLVE for one in remaining.values()):
            # only once it has run is known what is really stale
            left_s_of_all = None if left.is_bound else left.left_s
            return replace(base, stages=stages, left_s=left_s_of_all, left_is="at most", at=now)
        return replace(
            base, stages=stages, left_s=left.left_s, left_is="more than" if left.is_bound else "about", at=now
        )

    def stage(self, one: Stage) -> StageNow:
        """Return one stage as it is now."""
        return self._now(one, self._usual())

    def _now(self, one: Stage, usual: Mapping[str, float]) -> StageNow:
        place, address = self.places.get(one.address, Place("")), one.address
        if (end := self.ended.get(address)) is not None:
            return StageNow(
                one.name, place.group, place.run, end.state, self.seconds.get(address), seconds=end.command_s,
                device=end.device, line=self.lines.get(address, ""), message=end.message,
            )  # fmt: skip
        base = StageNow(one.name, place.group, place.run, expected_s=usual.get(address))
        if (run := self.running.get(address)) is not None:
            return replace(base, state=RUNNING, began=run.began, device=run.device, line=run.line, heard=run.heard)
        return base

    def _usual(self) -> dict[str, float]:
        """Return how long stages are expected to take: as earlier, else as others of their kind, in this run too."""
        took = {address: one.command_s for address, one in dict(self.ended).items() if one.state == "executed"}
        return estimate.expected(self.expected, took | dict(self.seconds))


def _left(usual_s: float | None, running: Running | None, now: float) -> float | None:
    if running is None:
        return usual_s
    silent_s = now - running.heard if running.heard else 0.0
    return estimate.running_left(usual_s, now - running.began, running.line, silent_s)


class Publisher:
    """Hands the snapshots of a flow run to the terminal and to a file, from its own thread."""

    def __init__(self, where: Workspace, look: Callable[[], Snapshot], show: Show) -> None:
        self.where, self.look, self.show = where, look, show
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._keep, name="publisher", daemon=True)

    def __enter__(self) -> Publisher:
        snapshot.clear(self.where.folder)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()

    def _keep(self) -> None:
        written: Snapshot | None = None
        while True:
            is_last = self.over.wait(EVERY_S if written else 0.0)
            one = self.look()
            self.show(one)
            if not snapshot.same(written, one):
                snapshot.write(self.where.folder, one)
                written = one
            if is_last:
                return
