"""Agreement of two orders of the same rows: Kendall's tau-b with ties (Kendall, Biometrika 33, 1945).

Shapes: R rows. Two rows are a pair; a pair is concordant when both orders put its rows the same way round.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from stages.core.errors import InputError

# 8! = 40320 orders are counted in a fraction of a second; past that nobody needs the exact chance
MAX_ROWS_ENUMERATED = 8


@dataclass(frozen=True)
class Pairs:
    """How many pairs of rows two orders agree on; counts of several columns add up."""

    concordant: int = 0
    discordant: int = 0
    tied_left: int = 0
    tied_right: int = 0
    tied_both: int = 0

    @property
    def total(self) -> int:
        """All pairs, tied or not."""
        return self.concordant + self.discordant + self.tied_left + self.tied_right + self.tied_both

    def __add__(self, other: Pairs) -> Pairs:
        return Pairs(
            self.concordant + other.concordant,
            self.discordant + other.discordant,
            self.tied_left + other.tied_left,
            self.tied_right + other.tied_right,
            self.tied_both + other.tied_both,
        )


def count_pairs(left_R: Sequence[float], right_R: Sequence[float]) -> Pairs:
    """Count the pairs of rows that two sets of values order the same way, the other way, or not at all.

    Args:
        left_R: values of R rows, finite; only their order matters.
        right_R: other values of the same rows.

    Raises:
        ValueError: different numbers of rows, or a value that is not finite.

    >>> count_pairs([94.25, 94.80, 95.67], [71.0, 69.5, 73.0])
    Pairs(concordant=2, discordant=1, tied_left=0, tied_right=0, tied_both=0)
    """
    if len(left_R) != len(right_R):
        raise InputError(f"agreement needs two values for each row, got {len(left_R)} and {len(right_R)}")
    if not all(map(math.isfinite, [*left_R, *right_R])):
        raise InputError(f"agreement needs finite values, got {list(left_R)} and {list(right_R)}")
    concordant = discordant = tied_left = tied_right = tied_both = 0
    for i, j in itertools.combinations(range(len(left_R)), 2):
        left, right = left_R[i] - left_R[j], right_R[i] - right_R[j]
        if left == 0 or right == 0:
            tied_both += left == right == 0
            tied_left += left == 0 != right
            tied_right += right == 0 != left
        else:
            concordant += (left > 0) == (right > 0)
            discordant += (left > 0) != (right > 0)
    return Pairs(concordant, discordant, tied_left, tied_right, tied_both)


def kendall_tau(pairs: Pairs) -> float | None:
    """Return tau-b in [-1, 1]: 1 for the same order, -1 for the reverse; None where one side ties all.

    Counts of several columns may be summed first: then each pair of rows in each column has one vote, and
    rows are never compared across columns.

    >>> round(kendall_tau(Pairs(concordant=2, discordant=1)), 3)
    0.333
    """
    untied = pairs.concordant + pairs.discordant
    left, right = untied + pairs.tied_right, untied + pairs.tied_left
    if left == 0 or right == 0:
        return None
    return (pairs.concordant - pairs.discordant) / math.sqrt(left * right)


def chance(left_R: Sequence[float], right_R: Sequence[float]) -> float | None:
    """Return the share of all orders of the rows that agree with ``left_R`` at least as well as ``right_R`` does.

    What a table of few rows is worth: three rows in the published order happen by chance one time in six.
    None where tau is undefined or the rows are more than ``MAX_ROWS_ENUMERATED``.

    >>> round(chance([1, 2, 3], [10, 20, 30]), 3)
    0.167
    """
    tau = kendall_tau(count_pairs(left_R, right_R))
    if tau is None or len(left_R) > MAX_ROWS_ENUMERATED:
        return None
    taus = [kendall_tau(count_pairs(left_R, order)) for order in itertools.permutations(right_R)]
    # the same counts give the same float, so `>=` needs no tolerance
    return sum(other is not None and other >= tau for other in taus) / len(taus)
