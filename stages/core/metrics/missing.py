"""Why a metric is missing: a suite without sets, a reason in its details, or options that leave it out.

Pure functions on plain data, so that reports and MLflow's records give the same reason.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

NOT_MEASURABLE = "not measurable"  # asked for, but the test set cannot answer
NOT_MEASURED = "not measured"  # not asked for in this run

# what published test sets are called in switches; keys of metrics begin with them, in lower case or not
SETS = {
    "hq": ("lfw", "cfp_fp", "cplfw", "calfw", "agedb_30", "cfp_ff", "vgg2_fp", "xqlfw"),
    "ijb": ("IJBB", "IJBC"),
    "lq": ("tinyface", "scface", "ijbs", "crlfw"),
    "fiqa": (
        "lfw", "cfp_fp", "cplfw", "calfw", "agedb_30", "cfp_ff", "vgg2_fp", "adience", "xqlfw", "IJBB", "IJBC", "ijbs"
    ),
}
_KINDS = {"hq": "verification set", "ijb": "IJB set", "lq": "low-quality set", "fiqa": "set for quality scores"}
_ONE_TO_MANY = ("_rank", "_tpir")


def no_set(suite: str, dataset: str) -> str:
    """Return why a suite without sets measures nothing.

    >>> no_set("ijb", "mine")
    'no IJB set of mine is named (ijb.sets is empty)'
    """
    return f"no {_KINDS[suite]} of {dataset} is named ({suite}.sets is empty)"


def why(
    suite: str, key: str, reasons: Mapping[str, str], switches: Mapping[str, Any], dataset: str
) -> tuple[str, str]:
    """Return NOT_MEASURABLE or NOT_MEASURED for a metric without a value, and the reason, empty if nothing says it.

    Args:
        suite: that should measure it.
        key: of the metric.
        reasons: in the suite's details, by place.
        switches: the suite's options.
        dataset: that the run is measured on.

    >>> why("ijb", "ijbb_rank1", {}, {"sets": []}, "mine")
    ('not measured', 'no IJB set of mine is named (ijb.sets is empty)')
    >>> why("hq", "avg", {"avg": "needs cfp_fp"}, {"sets": ["lfw"]}, "mine")
    ('not measurable', 'needs cfp_fp')
    >>> why("hq", "African", {}, {"sets": ["lfw"]}, "mine")
    ('not measured', 'data set mine: hq.sets names only lfw')
    >>> why("fiqa", "lfw_sharpness_edc_auc_fmr1e-02", {}, {"sets": ["lfw"], "methods": []}, "mine")
    ('not measured', '')
    """
    if switches.get("sets") == [] and suite in _KINDS:
        return NOT_MEASURED, no_set(suite, dataset)
    recorded = recorded_reason(key, reasons)
    if recorded is not None:
        return NOT_MEASURABLE, recorded
    left = left_out(suite, key, switches, dataset)
    sets = switches.get("sets", [])
    if left is None and suite in SETS and sets and not any(_is_of(key, name) for name in sets):
        left = f"data set {dataset}: {suite}.sets names only {', '.join(sets)}"
    return NOT_MEASURED, left or ""


def recorded_reason(key: str, reasons: Mapping[str, str]) -> str | None:
    """Return why a metric is missing: the reason in the details under the metric's key.

    >>> recorded_reason("all_avg", {"all_avg": "no IJB-B"})
    'no IJB-B'
    >>> recorded_reason("ijbb_tar_at_far_1e-04", {"IJBB.tar_at_far.1e-04": "too few impostors"})
    'too few impostors'
    >>> recorded_reason("IJBC_spearman_joint", {"IJBC.joint.spearman": "no truth.parquet"})
    'no truth.parquet'
    """
    asked = key.lower()  # suites say IJBB in details, ijbb or IJBB in metrics
    found: dict[str, str] = {}
    for place, reason in reasons.items():
        name, *rest = place.lower().split(".")
        if key == place or (asked.startswith(f"{name}_") and all(part in asked for part in rest)):
            found.setdefault(name, reason)
    return found[max(found, key=len)] if found else None  # lfw_mask_...: of lfw_mask, not of lfw


def left_out(
    suite: str, key: str, switches: Mapping[str, Any], dataset: str = "", others: Collection[str] = ()
) -> str | None:
    """Return which option of a suite leaves a metric out; None if none does, or if there is no such metric.

    Args:
        suite: that should measure it.
        key: of the metric.
        switches: the suite's options.
        dataset: that the run is measured on.
        others: names of test sets that exist beside the published ones and those of ``switches``.

    >>> switches = {"sets": ["lfw"], "recognition": []}
    >>> left_out("fiqa", "xqlfw_joint_edc_auc_fmr1e-02", switches, "mine")
    'data set mine: fiqa.sets does not name xqlfw'
    >>> left_out("fiqa", "lfw_joint_edc_auc_fmr1e-02_by_norm", switches)
    'fiqa.recognition does not name norm'
    >>> left_out("fiqa", "lfw_pooled_by_joint_tar_at_far_1e-04", switches)
    'fiqa.pool is false'
    >>> left_out("fiqa", "lwf_joint", switches) is None
    True
    >>> left_out("ijb", "ijbb_rank1", {"sets": ["IJBB"], "protocols": ["1:1"]})
    'ijb.protocols does not name 1:N'
    """
    if suite in SETS and switches.get("sets") == []:
        return no_set(suite, dataset)
    known = (*SETS.get(suite, ()), *others, *switches.get("sets", ()))
    named = [name for name in known if _is_of(key, name)]
    if not named or "sets" not in switches:
        return None
    name = max(named, key=len)
    if name not in switches["sets"]:
        return f"data set {dataset}: {suite}.sets does not name {name}"
    if suite == "fiqa" and "_pooled_by_" in key:
        return None if switches.get("pool") else "fiqa.pool is false"
    if "_by_" in key:
        judge = key.rpartition("_by_")[2]
        return None if judge in switches.get("recognition", ()) else f"{suite}.recognition does not name {judge}"
    if suite == "ijb" and any(part in key for part in _ONE_TO_MANY):
        return None if "1:N" in switches.get("protocols", ()) else "ijb.protocols does not name 1:N"
    side = key.removeprefix("crlfw_")
    if suite == "lq" and side.isdigit() and int(side) not in switches.get("crlfw_sides", ()):
        return f"lq.crlfw_sides does not name {side}"
    return None


def _is_of(key: str, name: str) -> bool:
    """Return whether a metric is named after a test set."""
    return f"{key}_".lower().startswith(f"{name}_".lower())
