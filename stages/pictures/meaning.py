"""What a quality score means: a cut with what it does on a measured set, and a scale from 0 to 100.

Reads what suite `fiqa` keeps of a model: ``cuts.csv``, ``scales.json``, ``details.json``.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.core.errors import InputError, UnknownNameError
from stages.core.metrics import quality_cuts
from stages.core.metrics.quality_cuts import Cut
from stages.core.metrics.quality_scale import Scale
from stages.runtime import artifacts

SCALES = "scales.json"
_ASKED = re.compile(r"\s*([0-9.eE+-]+)\s*(%?)\s*(?:@\s*fmr\s*=\s*([0-9.eE+-]+))?\s*")


@dataclass(frozen=True)
class Asked:
    """A share of images to drop, or an FNMR to reach; at a false match rate, or the lowest that was resolved."""

    kind: str  # "discard" or "fnmr"
    value: float
    fmr: float | None


@dataclass(frozen=True)
class Meaning:
    """A cut, what it does on the set, and the scale of the score."""

    method: str
    where: str
    fmr: float
    whole: Cut
    cut: Cut
    scale: Scale
    doubts: tuple[str, ...]
    """What the set cannot resolve, in words; empty if nothing."""
    over: str = "people"
    """What bands were resampled over."""

    def text(self) -> str:
        """Return it in words."""
        one, points = self.cut, 100 * self.cut.less
        said = (
            f"{self.method}: a cut at {one.cut:.4g} drops {one.images_dropped:.1%} of the images of {self.where} and "
            f"{one.genuine_dropped:.1%} of its genuine pairs; FNMR at FMR {self.fmr:g} is {self.whole.fnmr:.2%} "
            f"[{self.whole.low:.2%}, {self.whole.high:.2%}] before and {one.fnmr:.2%} [{one.low:.2%}, {one.high:.2%}] "
            f"after, {points:.2f} points lower [{100 * one.less_low:.2f}, {100 * one.less_high:.2f}] (95 % over "
            f"{self.whole.people_left} {self.over}, at the threshold of all pairs)"
        )
        return "\n".join([said, self.scale.text(self.method, self.where), *self.doubts])

    def tree(self) -> dict[str, Any]:
        """Return it for JSON."""
        numbers = {key: _finite(value) for key, value in vars(self.cut).items()}
        before = {key: _finite(getattr(self.whole, key)) for key in ("fnmr", "low", "high", "people_left")}
        return {
            "method": self.method, "set": self.where, "fmr": self.fmr, "before": before, "after": numbers,
            "bands_resampled_over": self.over, "scale": self.scale.text(self.method, self.where),
            "not_resolved": list(self.doubts),
        }  # fmt: skip


def parse(kind: str, text: str) -> Asked:
    """Return what an option asks: ``5%``, ``0.05``, ``.01@fmr=1e-3``.

    >>> parse("discard", "5%")
    Asked(kind='discard', value=0.05, fmr=None)
    >>> parse("fnmr", ".01@fmr=1e-3")
    Asked(kind='fnmr', value=0.01, fmr=0.001)
    """
    form = _ASKED.fullmatch(text)
    try:
        value = float(form[1]) / (100 if form[2] else 1) if form else math.nan
        fmr = float(form[3]) if form and form[3] else None
    except ValueError:
        value, fmr = math.nan, None
    if not 0 <= value < 1:
        raise InputError(f"--{kind} should be a share below 1, as 5%, 0.05 or .01@fmr=1e-3, got {text!r}")
    return Asked(kind, value, fmr)


def read(folder: Path, set_name: str, method: str, asked: Asked) -> Meaning:
    """Return the meaning of a method's scores on a set.

    Args:
        folder: results of suite `fiqa`.
        set_name: a set in it.
        method: a quality method in it.
        asked: the cut.

    Raises:
        FileNotFoundError: the suite was not measured, or by a version that kept no cuts.
        LookupError: not this set, or not this method.
        ValueError: the set cannot resolve the rate, or no cut reaches what was asked; the message says what it can.
    """
    details = _details(folder, set_name, method)
    table = pd.read_csv(folder / "cuts.csv")
    table = table[(table["set"] == set_name) & (table["method"] == method)]
    fmr = _rate(table, details["methods"][method], set_name, asked.fmr)
    found = of_table(table, scale(folder, set_name, method), (set_name, method), fmr, asked)
    return replace(found, over=details["bands_resampled_over"])


def scale(folder: Path, set_name: str, method: str) -> Scale:
    """Return the scale of a method's scores on a set; arguments and errors as ``read``."""
    _details(folder, set_name, method)
    found = scales(folder, method)
    if set_name not in found:
        raise InputError(f"{folder}: {method} has no score of any image of {set_name}, so there is no scale")
    return Scale.read(found[set_name])


def scales(folder: Path, method: str) -> dict[str, Any]:
    """Return the scales of a method's scores by set, as they are kept; none where suite `fiqa` was not measured.

    Args:
        folder: results of the suite.
        method: a quality method.
    """
    path = folder / SCALES
    found: dict[str, Any] = artifacts.read_json(path).get(method, {}) if path.is_file() else {}
    return found


def _details(folder: Path, set_name: str, method: str) -> dict[str, Any]:
    """Return what is known of a set, after looking whether the method was measured on it."""
    for name in ("cuts.csv", SCALES):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder / name} is missing: evaluate the model's suite fiqa (`facet run`), or measure it with "
                "`facet score --discard 5% --dataset NAME`"
            )
    tree = artifacts.read_json(folder / "details.json")
    sets: dict[str, Any] = tree["sets"] | tree.get("pooled", {})
    if set_name not in sets:
        raise UnknownNameError(f"{folder} has no set {set_name!r}: there are {', '.join(sets) or 'none'}")
    methods = sets[set_name]["methods"]
    if method not in methods:
        raise UnknownNameError(f"{folder} has no scores by {method!r} on {set_name}: there are {', '.join(methods)}")
    details: dict[str, Any] = sets[set_name]
    return details


def of_table(table: pd.DataFrame, scale: Scale, key: tuple[str, str], fmr: float, asked: Asked) -> Meaning:
    """Return the meaning from a table of cuts and a scale, ``key`` being set and method."""
    rows = table[np.isclose(table["fmr"], fmr)]
    # read as a number, an endless cut is empty
    found = [
        Cut(**{str(name): row[name] for name in quality_cuts.COLUMNS} | {"people_left": int(row["people_left"])})
        for row in rows.fillna({"cut": -math.inf}).to_dict("records")
    ]
    whole, at = found[0], found[1:]
    if asked.kind == "discard":
        # by the images that are dropped: with ties a percentile may drop fewer
        cut = min(at, key=lambda one: (abs(one.images_dropped - asked.value), one.percent))
    else:
        cut = _reaching(at, asked.value, key, fmr)
    return Meaning(key[1], key[0], fmr, whole, cut, scale, tuple(_doubts(cut, asked)))


def _reaching(at: list[Cut], fnmr: float, key: tuple[str, str], fmr: float) -> Cut:
    cut = quality_cuts.smallest(at, fnmr)
    if cut is None:
        best = min((one for one in at if not math.isnan(one.fnmr)), key=lambda one: one.fnmr)
        raise InputError(
            f"no cut on {key[1]} brings FNMR at FMR {fmr:g} on {key[0]} to {fnmr:.2%}: the lowest is {best.fnmr:.2%}, "
            f"dropping {best.images_dropped:.0%} of the images"
        )
    return cut


def _rate(table: pd.DataFrame, measured: dict[str, Any], set_name: str, fmr: float | None) -> float:
    """Return the false match rate: the one asked for, or the lowest that the set resolves."""
    rates = sorted(table["fmr"].unique())
    if fmr is None and rates:
        return float(rates[0])
    near = [rate for rate in rates if fmr is not None and math.isclose(rate, fmr)]
    if near:
        return float(near[0])
    if not any("edc_auc" in tree for tree in measured.values()):
        raise InputError(f"{set_name} has no pairs, so it does not say what a cut does: name a set of pairs")
    reasons = {rate: tree["reason"] for rate, tree in measured.items() if "edc_auc" in tree
               and tree.get("reason")}  # fmt: skip
    for rate, reason in reasons.items():
        if fmr is None or math.isclose(float(rate), fmr):
            raise InputError(f"{set_name} does not resolve it: {reason}")
    there = ", ".join(f"{rate:g}" for rate in rates)
    raise InputError(f"FMR {fmr:g} was not evaluated on {set_name}: there are {there or 'none'}")


def _doubts(cut: Cut, asked: Asked) -> list[str]:
    said = []
    if asked.kind == "discard" and abs(cut.images_dropped - asked.value) > 0.005:
        said.append(
            f"not resolved: no cut drops {asked.value:.1%} of the images, the nearest drops {cut.images_dropped:.1%}"
        )
    if cut.less_high < 0:
        said.append("this cut makes it worse: FNMR of the pairs that are left is higher, and the band excludes 0")
    elif not cut.less_low > 0:
        said.append("not resolved: the band of the difference includes 0, so this set does not show that FNMR falls")
    if asked.kind == "fnmr" and not cut.high <= asked.value:
        said.append(f"not resolved: the band after the cut reaches {cut.high:.2%}, above {asked.value:.2%}")
    return said


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
