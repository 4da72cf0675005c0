"""Estimate of how long stages and the rest of a run take, from earlier runs and from what running stages print."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.board import progress_line
from pipeline.execution.graph import Stage


@dataclass(frozen=True)
class Estimate:
    """Seconds that a run still takes."""

    left_s: float | None
    """None if of no remaining stage anything is known."""
    is_bound: bool
    """Of some stages nothing is known: it takes longer."""


def expected(stages: Mapping[str, Stage], seconds: Mapping[str, float]) -> dict[str, float]:
    """Return how long each stage is expected to take, by address: as last time, or as others of its kind here did.

    A stage of a kind that never ran is left out.

    Args:
        stages: by address.
        seconds: how long stages took last time, by address.
    """
    by_kind: dict[str, list[float]] = {}
    for address, took in seconds.items():
        by_kind.setdefault(kind_of(address), []).append(took)
    means = {kind: sum(found) / len(found) for kind, found in by_kind.items()}
    found = {address: seconds.get(address, means.get(kind_of(address))) for address in stages}
    return {address: took for address, took in found.items() if took is not None}


def kind_of(address: str) -> str:
    """Return the kind of the stage at an address.

    >>> kind_of("graph/train_backbone/dvc.yaml:train_backbone@adaface"), kind_of("resolve")
    ('train_backbone', 'resolve')
    """
    return address.rpartition(":")[2].partition("@")[0]


def running_left(expected_s: float | None, elapsed_s: float, line: str, silent_s: float) -> float | None:
    """Return the seconds that a running stage still takes: by its progress line, but not before its usual time.

    A stage may print the progress of one part after another, so that its line alone promises too early an end.

    Args:
        expected_s: how long it usually takes, as far as known.
        elapsed_s: since it began.
        line: its last output line.
        silent_s: since that came.

    >>> running_left(60.0, 20.0, "train a  50%  10/20 images  1/s  12 s left", 2.0)
    40.0
    >>> running_left(None, 20.0, "train a  50%  10/20 images  1/s  12 s left", 2.0)
    10.0
    >>> running_left(None, 20.0, "reading", 2.0) is None
    True
    """
    measured = progress_line.parse(line)
    found = [] if expected_s is None else [expected_s - elapsed_s]
    if measured is not None and measured.left_s is not None:
        found.append(measured.left_s - silent_s)
    return max(0.0, *found) if found else None


def left(
    stages: Mapping[str, Stage], left_s: Mapping[str, float | None], jobs: int, num_devices: int
) -> Estimate:
    """Return how long the stages that have not ended take together.

    That is the longest of three: the critical path, all work over the stages that run at a time, and the work that
    needs a device over the devices. It is what no order could beat.

    Args:
        stages: those that have not ended, by address, in an order in which they could run.
        left_s: what each still takes; None where that is unknown.
        jobs: stages at a time.
        num_devices: devices for the stages that need one.
    """
    known = {address: took for address in stages if (took := left_s.get(address)) is not None}
    if stages and not known:
        return Estimate(None, True)
    behind: dict[str, float] = {}
    longest = 0.0
    for address, stage in reversed(list(stages.items())):
        chain = known.get(address, 0.0) + behind.get(address, 0.0)
        longest = max(longest, chain)
        for above in stage.upstream:
            behind[above] = max(behind.get(above, 0.0), chain)
    on_devices = sum(took for address, took in known.items() if stages[address].needs_device)
    total = max(longest, sum(known.values()) / max(jobs, 1), on_devices / max(num_devices, 1))
    return Estimate(total, len(known) < len(stages))
