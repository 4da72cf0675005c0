"""Parses identities in lists: whole numbers from 0 up that fit 64 bits."""

from __future__ import annotations

DIGITS = 18  # 64 bits hold any number of so many


def whole_number(text: str) -> int | None:
    """Return the number, or None if ``text`` is not one: only ASCII digits, at most 18 of them.

    >>> whole_number(" 007"), whole_number("-1"), whole_number("9" * 30), whole_number("٣")
    (7, None, None, None)
    """
    text = text.strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= DIGITS else None
