"""HQ Avg. and All Avg. as in QGFace's ablation table (README.md at 778aa5ef).

HQ Avg. is the mean accuracy of LFW, CFP-FP, CPLFW, CALFW and AgeDB-30. All Avg. is the mean of six columns: SCface
d1, d2 and d3 rank 1, TinyFace rank 1, IJB-B TAR at FAR 1e-4 and HQ Avg.; all five rows of the table are that to
the last digit (Baseline: (61.69 + 97.23 + 99.85 + 63.98 + 90.26 + 95.62) / 6 = 84.77).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

VERSION = "1"

HQ_AVG = ("hq.lfw", "hq.cfp_fp", "hq.cplfw", "hq.calfw", "hq.agedb_30")
OTHERS = ("lq.scface_d1", "lq.scface_d2", "lq.scface_d3", "lq.tinyface_rank1", "ijb.ijbb_tar_at_far_1e-04")


def averages(measured: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, float], dict[str, str]]:
    """Return ``hq_avg`` and ``all_avg`` as fractions, and the reason for each one that is missing.

    Args:
        measured: metrics by suite.

    >>> hq = {"lfw": 0.9, "cfp_fp": 0.8, "cplfw": 0.7, "calfw": 0.8, "agedb_30": 0.8}
    >>> averages({"hq": hq})
    ({'hq_avg': 0.8}, {'all_avg': 'needs lq.scface_d1, lq.scface_d2, lq.scface_d3, lq.tinyface_rank1, \
ijb.ijbb_tar_at_far_1e-04'})
    """
    found: dict[str, float] = {}
    reasons: dict[str, str] = {}
    for name, wanted in (("hq_avg", HQ_AVG), ("all_avg", (*OTHERS, *HQ_AVG))):
        values = {key: _value(measured, key) for key in wanted}
        missing = [key for key, value in values.items() if value is None]
        if missing:
            reasons[name] = f"needs {', '.join(missing)}"
        elif name == "hq_avg":
            found[name] = sum(value for value in values.values() if value is not None) / len(HQ_AVG)
        else:
            others = [value for key in OTHERS if (value := values[key]) is not None]
            found[name] = (sum(others) + found["hq_avg"]) / (len(OTHERS) + 1)
    return found, reasons


def _value(measured: Mapping[str, Mapping[str, Any]], key: str) -> float | None:
    suite, _, metric = key.partition(".")
    value = measured.get(suite, {}).get(metric)
    return None if value is None else float(value)
