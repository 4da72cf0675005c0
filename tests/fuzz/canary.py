"""A function that no reader may call: files that are mutated name it."""

from __future__ import annotations

rung: list[tuple[object, ...]] = []


def ring(*arguments: object) -> str:
    """Record a call."""
    rung.append(arguments)
    return "rung"
