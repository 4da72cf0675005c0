"""Board as plain lines: when a stage begins and ends, and in between one line a stage per half minute."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.board import wording
from pipeline.board.snapshot import RUNNING, Snapshot, StageNow

EVERY_S = 30.0


class Lines:
    """Says what has changed since the snapshot before."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.printed: dict[str, float] = {}

    def news(self, one: Snapshot, now: float) -> Iterator[str]:
        """Yield the lines for a snapshot of a run; always the same run."""
        if not self.states and one.stages:
            left = wording.left(one.left_s, one.left_is)
            yield f"{one.title}: {wording.counted(one)}" + (f", {left}" if left else "")
        for stage in one.stages:
            before = self.states.get(stage.name, "waiting")
            self.states[stage.name] = stage.state
            if stage.state != before and (stage.ended or stage.state == RUNNING):
                self.printed[stage.name] = now
                yield begins(stage) if stage.state == RUNNING else ends(stage)
            elif stage.state == RUNNING and stage.line and now - self.printed.get(stage.name, now) >= EVERY_S:
                self.printed[stage.name] = now
                yield f"{stage.name}: {stage.line}"


def begins(stage: StageNow) -> str:
    """Return the line with which a stage begins.

    >>> begins(StageNow("train_backbone@adaface", device="cpu:0", expected_s=41.0))
    'train_backbone@adaface begins on cpu:0, usually 0:41'
    """
    usually = "" if stage.expected_s is None else f", usually {wording.clock(stage.expected_s)}"
    return f"{stage.name} begins on {stage.device}{usually}"


def ends(stage: StageNow) -> str:
    """Return the line with which a stage ends: what it printed last has its numbers.

    >>> ends(StageNow("evaluate_hq@a", state="executed", seconds=4.2, line="lfw 0.9917  cfp_fp 0.9512"))
    'evaluate_hq@a executed in 0:04: lfw 0.9917  cfp_fp 0.9512'
    >>> line = "train a  100%  384/384 images  29/s  0 s left  loss 3.842"
    >>> ends(StageNow("train_backbone@a", state="executed", seconds=41.0, line=line))
    'train_backbone@a executed in 0:41: 29/s  loss 3.842'
    >>> ends(StageNow("evaluate_hq@a", state="skipped", message="needs train_backbone@a, which did not end well"))
    'evaluate_hq@a skipped: needs train_backbone@a, which did not end well'
    """
    took = f" {'in' if stage.good else 'after'} {wording.clock(stage.seconds)}" if stage.seconds else ""
    said = stage.message if not stage.good else _numbers(stage) if stage.state == "executed" else ""
    return f"{stage.name} {stage.state}{took}" + (f": {said}" if said else "")


def _numbers(stage: StageNow) -> str:
    """Return what an executed stage printed last; of a progress line what is still of interest."""
    if (measured := stage.measured) is not None:
        return "  ".join(filter(None, (measured.rate, measured.note)))
    return wording.shorter(stage.line)
