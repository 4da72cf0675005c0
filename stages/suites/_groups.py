"""Error rates by group of pairs, for the suite `hq`: FMR and FNMR at one threshold, with bands over people."""

from __future__ import annotations

import re
from typing import Any

from stages.core.errors import InputError
from stages.core.metrics import group_rates, rates
from stages.core.metrics.group_rates import Rate
from stages.core.metrics.resampling_units import units
from stages.core.metrics.suite_result import finite
from stages.suites._pairs import Pairs

ALL = "all pairs"


def measure(name: str, pairs: Pairs, fmr: float) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the metrics ``NAME_fmr_GROUP`` and ``NAME_fnmr_GROUP``, and the details; nothing for a set without groups.

    Args:
        name: of the set.
        pairs: scored.
        fmr: over all pairs, at which the threshold is set.

    Raises:
        ValueError: two groups would have one name as metrics.
    """
    listed = pairs.listed
    if listed is None or listed.group_P is None:
        return {}, {}
    genuine_G, impostor_I = pairs.cosine_P[pairs.is_same_P], pairs.cosine_P[~pairs.is_same_P]
    reason = rates.unresolved(impostor_I.size, fmr) or ("" if genuine_G.size else "there are no genuine pairs")
    if reason:
        return {}, {"fmr": {"reason": reason}, "fnmr": {"reason": reason}}
    threshold = rates.threshold_at_fmr(impostor_I, fmr)
    first_P, second_P, over = units(pairs.first_P, pairs.second_P, pairs.is_same_P, listed.identity_N)
    found = group_rates.by_group(pairs.cosine_P, pairs.is_same_P, listed.group_P, threshold, first_P, second_P)
    lines = [
        {"group": group, **vars(one), "fnmr": _rate(one.fnmr), "fmr": _rate(one.fmr)}
        for group, one in zip((*listed.groups, ALL), found, strict=True)
    ]
    metrics: dict[str, float] = {}
    details: dict[str, Any] = {"fmr": {}, "fnmr": {}}
    for group, one in zip(_keys(listed.groups), found, strict=False):
        for kind, rate, what in (("fmr", one.fmr, "impostor"), ("fnmr", one.fnmr, "genuine")):
            if rate is None:
                details[kind][group] = {"reason": f"there are no {what} pairs"}
            else:
                metrics[f"{name}_{kind}_{group}"] = rate.value
    details["groups"] = {
        "fmr": fmr,
        "threshold": finite(threshold),
        "bands_resampled_over": listed.identity_from or over,
        "pairs_in_no_group": int((listed.group_P < 0).sum()),
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
