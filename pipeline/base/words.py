"""Words for people: lists that stay short."""

from __future__ import annotations

from collections.abc import Sequence


def few(names: Sequence[str], most: int = 8) -> str:
    """Return names as a list, shortened when there are hundreds.

    >>> few(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
