"""Scheduling: which stage may start now. Pure bookkeeping on the graph, without clock, processes or Prefect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.execution.graph import Stage

UNKNOWN_S = 1.0


class Schedule:
    """Stages to do, in dependency order; the stage with the longest chain behind it goes first.

    A stage is ready when all stages above it *that are to be done here* are done; others are taken as fresh.
    """

    def __init__(self, stages: Sequence[Stage], seconds: Mapping[str, float] | None = None) -> None:
        """Plan ``stages``, given in an order in which they could run.

        Args:
            stages: what is to be done.
            seconds: how long stages took last time, by address, as far as known.
        """
        self.stages = {stage.address: stage for stage in stages}
        self.waiting = dict(self.stages)
        self.running: set[str] = set()
        self.done: set[str] = set()
        self.below: dict[str, list[str]] = {address: [] for address in self.stages}
        for stage in stages:
            for above in stage.upstream:
                if above in self.below:
                    self.below[above].append(stage.address)
        self.remaining_s = self._critical_path(seconds or {})

    @property
    def finished(self) -> bool:
        """Whether no stage waits and none runs."""
        return not self.waiting and not self.running

    def ready(self) -> list[Stage]:
        """Return the stages that may start now, the one with the longest chain behind it first."""
        ready = [
            stage for stage in self.waiting.values() if all(self._is_there(above) for above in stage.upstream)
        ]
        return sorted(ready, key=lambda stage: (-self.remaining_s[stage.address], stage.address))

    def start(self, stage: Stage) -> None:
        """Record that ``stage`` runs."""
        del self.waiting[stage.address]
        self.running.add(stage.address)

    def finish(self, stage: Stage, good: bool) -> list[Stage]:
        """Record how ``stage`` ended; return the stages that will not run because it failed."""
        self.running.remove(stage.address)
        if good:
            self.done.add(stage.address)
            return []
        return self._skip_below(stage)

    def abandon(self) -> list[Stage]:
        """Give up all stages that have not started; return them."""
        left = list(self.waiting.values())
        self.waiting.clear()
        return left

    def _is_there(self, address: str) -> bool:
        return address not in self.stages or address in self.done

    def _skip_below(self, failed: Stage) -> list[Stage]:
        skipped = []
        todo = list(self.below[failed.address])
        while todo:
            address = todo.pop(0)
            stage = self.waiting.pop(address, None)
            if stage is not None:
                skipped.append(stage)
                todo += self.below[address]
        return skipped

    def _critical_path(self, seconds: Mapping[str, float]) -> dict[str, float]:
        """Return the seconds of the longest chain that starts at each stage."""
        by_kind: dict[str, list[float]] = {}
        for address, stage in self.stages.items():
            if address in seconds:
                by_kind.setdefault(stage.kind, []).append(seconds[address])
        remaining: dict[str, float] = {}
        for address, stage in reversed(self.stages.items()):
            like = by_kind.get(stage.kind, [UNKNOWN_S])
            own = seconds.get(address, sum(like) / len(like))
            remaining[address] = own + max((remaining[below] for below in self.below[address]), default=0.0)
        return remaining
