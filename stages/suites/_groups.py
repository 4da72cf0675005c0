"""Error rates by group of pairs, for the suite `hq`: FMR and FNMR at one threshold, with bands over people."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import InputError
from stages.core.metrics import group_rates, rates
from stages.core.metrics.group_rates import Rate
from stages.core.metrics.resampling_units import units
from stages.core.metrics.suite_result import finite
from stages.datasets import truth
from stages.suites._pairs import Pairs

ALL = "all pairs"


LEVELS = 5
"""Levels of known quality, equally wide, from 0 to 1."""


@dataclass(frozen=True)
class Groups:
    """The group of each pair, -1: in none; the groups' names; who is on each image, and what says so."""

    group_P: NDArray[np.int64]
    names: tuple[str, ...]
    identity_N: NDArray[np.int64] | None
    identity_from: str


def listed(pairs: Pairs) -> Groups | None:
    """Return the groups that a set's list gives; None if it gives none."""
    one = pairs.listed
    if one is None or one.group_P is None:
        return None
    return Groups(one.group_P, one.groups, one.identity_N, one.identity_from)


def by_known_quality(folder: Path, name: str, pairs: Pairs) -> Groups | None:
    """Return groups by the known quality of the worse image of each pair; None if nobody knows it.

    Args:
        folder: holds ``truth.parquet`` for synthetic data.
        name: of the set.
        pairs: of the set.
    """
    path = folder / truth.FILE
    if not path.is_file():
        return None
    num_images = pairs.processed.processed_N.size
    if pairs.names is None:
        known_N, names = truth.load(path, name, num_images), tuple(map(str, range(num_images)))
    else:
        known_N, names = truth.load_named(path, name, pairs.names), pairs.names
    if known_N is None:
        return None
    worse_P = np.minimum(known_N[pairs.first_P], known_N[pairs.second_P])
    level_P = np.minimum((worse_P * LEVELS).astype(np.int64), LEVELS - 1)
    there, group_P = np.unique(level_P, return_inverse=True)
    called = tuple(f"quality {level / LEVELS:.1f} to {(level + 1) / LEVELS:.1f}" for level in there)
    identity_N = truth.people(path, name, names)
    return Groups(group_P.astype(np.int64), called, identity_N, "" if identity_N is None else truth.FILE)


def measure(name: str, pairs: Pairs, fmr: float, groups: Groups | None) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the metrics ``NAME_fmr_GROUP`` and ``NAME_fnmr_GROUP``, and the details; nothing without groups.

    Args:
        name: of the set.
        pairs: scored.
        fmr: over all pairs, at which the threshold is set.
        groups: of the pairs.

    Raises:
        ValueError: two groups would have one name as metrics.
    """
    if groups is None:
        return {}, {}
    genuine_G, impostor_I = pairs.cosine_P[pairs.is_same_P], pairs.cosine_P[~pairs.is_same_P]
    reason = rates.unresolved(impostor_I.size, fmr) or ("" if genuine_G.size else "there are no genuine pairs")
    if reason:
        return {}, {"fmr": {"reason": reason}, "fnmr": {"reason": reason}}
    threshold = rates.threshold_at_fmr(impostor_I, fmr)
    first_P, second_P, over = units(pairs.first_P, pairs.second_P, pairs.is_same_P, groups.identity_N)
    found = group_rates.by_group(pairs.cosine_P, pairs.is_same_P, groups.group_P, threshold, first_P, second_P)
    lines = [
        {"group": group, **vars(one), "fnmr": _rate(one.fnmr), "fmr": _rate(one.fmr)}
        for group, one in zip((*groups.names, ALL), found, strict=True)
    ]
    metrics: dict[str, float] = {}
    details: dict[str, Any] = {"fmr": {}, "fnmr": {}}
    for group, one in zip(_keys(groups.names), found, strict=False):
        for kind, rate, what in (("fmr", one.fmr, "impostor"), ("fnmr", one.fnmr, "genuine")):
            if rate is None:
                details[kind][group] = {"reason": f"there are no {what} pairs"}
            else:
                metrics[f"{name}_{kind}_{group}"] = rate.value
    details["groups"] = {
        "fmr": fmr,
        "threshold": finite(threshold),
        "bands_resampled_over": groups.identity_from or over,
        "pairs_in_no_group": int((groups.group_P < 0).sum()),
        "rates": lines,
    }
    return metrics, details


def _keys(groups: tuple[str, ...]) -> list[str]:
    """Return the groups as parts of metrics' names."""
    keys = [re.sub(r"[^\w-]+", "_", group) for group in groups]
    twice = sorted({group for group, key in zip(groups, keys, strict=True) if keys.count(key) > 1})
    if twice:
        raise InputError(f"groups {', '.join(map(repr, twice))} have one name as metrics: rename one")
    return keys


def _rate(rate: Rate | None) -> dict[str, float | None] | None:
    return None if rate is None else {"value": rate.value, "low": finite(rate.low), "high": finite(rate.high)}
