"""Published test sets: their counts, and whether a value measured on a set of this name may stand for a published one.

Counts: face-recognition papers and the data sets' own pages; ``facet doctor`` takes them from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COUNTS: dict[str, dict[str, int]] = {
    "lfw": {"pairs": 6000, "genuine": 3000},
    "cfp_fp": {"pairs": 7000, "genuine": 3500},
    "cplfw": {"pairs": 6000, "genuine": 3000},
    "calfw": {"pairs": 6000, "genuine": 3000},
    "agedb_30": {"pairs": 6000, "genuine": 3000},
    "cfp_ff": {"pairs": 7000, "genuine": 3500},
    "vgg2_fp": {"pairs": 5000, "genuine": 2500},
    "xqlfw": {"pairs": 6000, "genuine": 3000},
    "IJBB": {"templates": 12115, "pairs": 8_010_270, "genuine": 10270},
    "IJBC": {"templates": 23124, "pairs": 15_658_489, "genuine": 19557},
    "tinyface": {"probes": 3728, "distractors": 153_428},
    "scface": {"gallery": 130},
}
"""By set, as the details of its evaluation name them."""
_TITLES = {
    "lfw": "LFW", "cfp_fp": "CFP-FP", "cplfw": "CPLFW", "calfw": "CALFW", "agedb_30": "AgeDB-30", "cfp_ff": "CFP-FF",
    "vgg2_fp": "VGG2-FP", "xqlfw": "XQLFW", "IJBB": "IJB-B", "IJBC": "IJB-C", "tinyface": "TinyFace",
    "scface": "SCface", "ijbs": "IJB-S", "adience": "Adience",
}  # fmt: skip
_SUITES = ("hq", "ijb", "lq", "fiqa")
_HQ_AVG = tuple(("hq", name) for name in ("lfw", "cfp_fp", "cplfw", "calfw", "agedb_30"))
_AVERAGES = {
    ("hq", "avg"): _HQ_AVG,
    ("averages", "hq_avg"): _HQ_AVG,
    ("averages", "all_avg"): (*_HQ_AVG, ("lq", "scface"), ("lq", "tinyface"), ("ijb", "IJBB")),
}
"""The sets of each average (``stages/protocols/averages.py``)."""
_MADE_OF = {"crlfw": "lfw"}

Counts = Mapping[str, Mapping[str, Mapping[str, int]]]


def why_apart(suite: str, key: str, dataset: str, data: Mapping[str, Any] | None, counts: Counts) -> str:
    """Return why a value must not be compared with a published one; empty if it may be.

    It may if its sets have the published counts and the person says that they are the published sets, or if the data
    set is synthetic or stands in for them: then only the order of rows is compared, and the page says so.

    Args:
        suite: that measured it.
        key: of its metric.
        dataset: name of the data set.
        data: what is said of it: ``synthetic``, ``stand_in``, ``published``; None if nothing is.
        counts: by suite and set, what was measured on.

    >>> mine = {"synthetic": False, "stand_in": False, "published": ["lfw"]}
    >>> why_apart("hq", "lfw", "mine", mine, {"hq": {"lfw": {"pairs": 40}}})
    'lfw of data set mine has 40 pairs, LFW has 6,000'
    >>> why_apart("hq", "lfw", "mine", mine, {"hq": {"lfw": {"pairs": 6000}}})
    ''
    >>> why_apart("hq", "cplfw", "mine", mine, {"hq": {"cplfw": {"pairs": 6000}}})
    'nobody says that cplfw of data set mine is CPLFW (if it is: datasets.mine.published: [cplfw] in params.yaml)'
    """
    data = data or {}
    if data.get("synthetic") or data.get("stand_in"):
        return ""
    reasons = (
        _why_other(name, dataset, data.get("published", ()), counts.get(of, {}).get(name, {}))
        for of, name in _sets(suite, key, counts)
    )
    return next(filter(None, reasons), "")


def _sets(suite: str, key: str, counts: Counts) -> tuple[tuple[str, str], ...]:
    """Return suite and name of the sets that a metric is measured on; none if it is no suite's."""
    if (suite, key) in _AVERAGES:
        return _AVERAGES[suite, key]
    if suite not in _SUITES:
        return ()
    asked = f"{key}_".lower()
    named = [name for name in counts.get(suite, {}) if asked.startswith(f"{name}_".lower())]
    return ((suite, max(named, key=len) if named else key),)


def _why_other(name: str, dataset: str, published: Any, counts: Mapping[str, int]) -> str:
    """Return why a set is not known to be the published one of its name; empty if it is."""
    original = _MADE_OF.get(name, name)
    title = _TITLES.get(original, original)
    for what, number in COUNTS.get(original, {}).items():
        if counts.get(what, number) != number:
            return f"{name} of data set {dataset} has {counts[what]:,} {what}, {title} has {number:,}"
    if original in published:
        return ""
    return (
        f"nobody says that {name} of data set {dataset} is {title} "
        f"(if it is: datasets.{dataset}.published: [{original}] in params.yaml)"
    )
