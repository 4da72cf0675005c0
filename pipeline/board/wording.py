"""Words and numbers that the board, its plain lines and Prefect's log share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from pipeline.board.snapshot import Snapshot, StageNow


def clock(seconds: float) -> str:
    """Return a duration as minutes and seconds.

    >>> clock(0.4), clock(41.3), clock(3723)
    ('0:00', '0:41', '1:02:03')
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def kinds(names: Iterable[str]) -> str:
    """Return how many stages there are of each kind.

    >>> kinds(["resolve", "row@heads-a", "row@heads-b"])
    'resolve, 2 row'
    """
    counts = Counter(name.partition("@")[0] for name in names)
    return ", ".join(kind if count == 1 else f"{count} {kind}" for kind, count in counts.items())


def left(left_s: float | None, left_is: str = "about") -> str:
    """Return the time left in words; empty if nothing is known of it.

    >>> left(80.0), left(80.0, "more than"), left(None)
    ('about 1:20 left', 'more than 1:20 left', '')
    """
    if left_s is None or (left_is == "more than" and left_s < 1.0):
        return ""
    return f"{left_is} {clock(left_s)} left"


def percent(stage: StageNow, now: float) -> tuple[float, bool] | None:
    """Return how much of a running stage is done, in percent, and whether it says so itself.

    Else it is what part of its usual time has passed; None if that is unknown too.
    """
    if (measured := stage.measured) is not None:
        return measured.percent, True
    if stage.expected_s:
        return min(100 * stage.elapsed_s(now) / stage.expected_s, 99.0), False
    return None


def share_done(one: Snapshot, now: float) -> float:
    """Return how much of a run is done, in percent: its stages weigh as long as they take, as far as that is known."""
    known = [took for stage in one.stages if (took := stage.expected_s or stage.seconds)]
    usual = sum(known) / len(known) if known else 1.0
    done = whole = 0.0
    for stage in one.stages:
        weight = max(stage.expected_s or stage.seconds or usual, 0.1)
        whole += weight
        if stage.ended:
            done += weight
        elif stage.state == "running" and (part := percent(stage, now)) is not None:
            done += weight * part[0] / 100
    return 100 * done / whole if whole else 0.0


def counted(one: Snapshot) -> str:
    """Return in a few words how far a run is: ``4 of 23 stages, 2 running, 1 failed``."""
    parts = [f"{one.num_ended} of {len(one.stages)} stages"]
    parts += [f"{len(found)} {state}" for state in ("running", "failed", "skipped") if (found := one.of(state))]
    return ", ".join(parts)


def shorter(text: str, most: int = 160) -> str:
    """Return a line, cut at a word where it is longer.

    >>> shorter("lfw 0.9917  cfp_fp 0.9512", most=20)
    'lfw 0.9917  cfp_fp ...'
    """
    return text if len(text) <= most else f"{text[:most].rpartition(' ')[0]} ..."
