"""Merging of sections of parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``below`` with ``above`` laid over it; a section that names another plugin replaces the one below whole.

    >>> merge({"head": {"name": "arcface", "margin": 0.5}, "seed": 1}, {"head": {"margin": 0.4}})
    {'head': {'name': 'arcface', 'margin': 0.4}, 'seed': 1}
    >>> merge({"head": {"name": "arcface", "margin": 0.5}}, {"head": {"name": "cosface"}})
    {'head': {'name': 'cosface'}}
    """
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            other = "name" in value and "name" in old and value["name"] != old["name"]
            merged[key] = dict(value) if other else merge(old, value)
        else:
            merged[key] = value
    return merged
