"""Agreement of measured and published order of a table's rows: over means, seed by seed, with an interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stages.core.metrics import agreement_spread
from stages.core.metrics.agreement import Pairs, chance, count_pairs, kendall_tau
from stages.core.metrics.agreement_spread import Interval


@dataclass(frozen=True)
class Agreement:
    """Agreement of measured and published order, in one column or over several."""

    pairs: Pairs  # published against the means over seeds
    rows: int  # that have both values
    chance: float | None = None  # share of all orders that agree as well; of one column only
    by_seed: tuple[Pairs, ...] = ()  # published against each seed that all rows have; empty with one seed
    interval: Interval | None = None  # of tau over seeds
    resolved: Pairs | None = None  # pairs that the seeds tell apart, the others as ties

    @property
    def tau(self) -> float | None:
        """Kendall's tau-b; None if nothing can be compared."""
        return kendall_tau(self.pairs)

    @property
    def seed_taus(self) -> list[float]:
        """Tau of each seed alone, if it has one."""
        return [tau for pairs in self.by_seed if (tau := kendall_tau(pairs)) is not None]


@dataclass(frozen=True)
class Ordered:
    """The values of one row in one column: None if not published, or not measured."""

    published: float | None
    mean: float | None
    by_seed: dict[int, float]  # rounded as shown, by seed
    raw: tuple[float, ...]  # not rounded


def agreements(
    columns: Sequence[Sequence[Ordered]], decimals: Sequence[int]
) -> tuple[tuple[Agreement, ...], Agreement]:
    """Return the agreement of each column, and over all: each pair of rows in each column counts once."""
    spread_columns = [
        agreement_spread.Column(
            [None if row.published is None else (row.published,) for row in rows],
            [row.raw if row.mean is not None else None for row in rows],
            places,
        )
        for rows, places in zip(columns, decimals, strict=True)
    ]
    intervals, over_all = agreement_spread.intervals(spread_columns)
    found = tuple(_agreement(rows, interval) for rows, interval in zip(columns, intervals, strict=True))
    compared = [one for one in found if one.rows > 1]
    overall = Agreement(
        sum((one.pairs for one in found), Pairs()),
        max(one.rows for one in found),
        by_seed=_pooled_seeds(columns) if over_all else (),
        interval=over_all,
        resolved=sum((one.resolved for one in compared if one.resolved), Pairs()) if over_all else None,
    )
    return found, overall


def _agreement(rows: Sequence[Ordered], interval: Interval | None) -> Agreement:
    both = _both(rows)
    published = [row.published for row in both if row.published is not None]
    means = [row.mean for row in both if row.mean is not None]
    pairs, share = count_pairs(published, means), chance(published, means)
    if interval is None:
        return Agreement(pairs, len(both), share)
    by_seed = tuple(count_pairs(published, [row.by_seed[seed] for row in both]) for seed in _seeds(both))
    every_RS = [list(row.by_seed.values()) for row in both]
    resolved = agreement_spread.resolved_pairs([(value,) for value in published], every_RS)
    return Agreement(pairs, len(both), share, by_seed, interval, resolved)


def _pooled_seeds(columns: Sequence[Sequence[Ordered]]) -> tuple[Pairs, ...]:
    compared = [both for rows in columns if len(both := _both(rows)) > 1]
    shared = _seeds([row for both in compared for row in both])
    found = []
    for seed in shared:
        parts = [
            count_pairs([row.published or 0.0 for row in both], [row.by_seed[seed] for row in both])
            for both in compared
        ]
        found.append(sum(parts, Pairs()))
    return tuple(found)


def _both(rows: Sequence[Ordered]) -> list[Ordered]:
    return [row for row in rows if row.published is not None and row.mean is not None]


def _seeds(rows: Sequence[Ordered]) -> list[int]:
    """Return the seeds that all rows have."""
    return sorted(set.intersection(*(set(row.by_seed) for row in rows))) if rows else []
