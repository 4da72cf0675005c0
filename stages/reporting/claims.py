"""Checks the orders that a paper states in words, seed by seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from stages.config.table import Claim, Column


@dataclass(frozen=True)
class Checked:
    """The result of checking a claim."""

    claim: Claim
    held: int  # seeds in which every comparison holds
    seeds: int  # that all of its rows have
    comparisons: int
    failed: tuple[str, ...]  # comparisons that the means do not hold, in words
    unmeasured: tuple[str, ...]  # what is missing; then nothing was checked
    apart: str = ""  # why it must not be checked: a test set is not the published one

    @property
    def verdict(self) -> str:
        """``holds`` in every seed, ``on average`` for the means only, ``fails``, or ``not checked``."""
        if self.unmeasured or self.apart:
            return "not checked"
        if self.failed:
            return "fails"
        return "holds" if self.held == self.seeds else "on average"


@dataclass(frozen=True)
class Measured:
    """One row in one column: None if it is not measured."""

    label: str
    mean: float | None
    by_seed: Mapping[int, float]
    apart: str = ""
    """Why it must not be compared with what is published; empty if it may be."""


def check(claim: Claim, columns: Sequence[Column], rows: Mapping[str, Sequence[Measured]]) -> Checked:
    """Check a claim.

    Args:
        claim: names rows and columns of the table.
        columns: of the table, in order.
        rows: by key, one entry a column.
    """
    chosen = [i for i, column in enumerate(columns) if not claim.columns or column.name in claim.columns]
    named = (*claim.better, *claim.worse)
    missing = tuple(
        f"{rows[key][i].label} in {columns[i].name}" for key in named for i in chosen if rows[key][i].mean is None
    )
    pairs = [(i, rows[better][i], rows[worse][i]) for i in chosen for better in claim.better for worse in claim.worse]
    if missing:
        return Checked(claim, 0, 0, len(pairs), (), missing)
    apart = next((rows[key][i].apart for key in named for i in chosen if rows[key][i].apart), "")
    if apart:
        return Checked(claim, 0, 0, len(pairs), (), (), apart)
    seeds = sorted(set.intersection(*(set(rows[key][i].by_seed) for key in named for i in chosen)))
    held = sum(
        all(_above(columns[i], left.by_seed[seed], right.by_seed[seed]) for i, left, right in pairs) for seed in seeds
    )
    return Checked(claim, held, len(seeds), len(pairs), tuple(_failed(columns, pairs)), ())


def _failed(columns: Sequence[Column], pairs: Sequence[tuple[int, Measured, Measured]]) -> Iterator[str]:
    for i, left, right in pairs:
        assert left.mean is not None
        assert right.mean is not None
        if not _above(columns[i], left.mean, right.mean):
            places = columns[i].decimals
            yield f"{columns[i].name}: {left.label} {left.mean:.{places}f}, {right.label} {right.mean:.{places}f}"


def _above(column: Column, left: float, right: float) -> bool:
    return left > right if column.higher_is_better else left < right
