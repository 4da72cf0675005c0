"""Decides which metrics a run's options leave out: their columns are empty; an impossible one is an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# what test sets are called in switches; keys of metrics begin with them, in lower case or not
SETS = {
    "hq": ("lfw", "cfp_fp", "cplfw", "calfw", "agedb_30", "cfp_ff", "vgg2_fp"),
    "ijb": ("IJBB", "IJBC"),
    "lq": ("tinyface", "scface", "ijbs", "crlfw"),
    "fiqa": ("lfw", "cfp_fp", "cplfw", "calfw", "agedb_30", "cfp_ff", "vgg2_fp", "adience", "xqlfw", "IJBB", "IJBC"),
}
_ONE_TO_MANY = ("_rank", "_tpir")


def left_out(suite: str, key: str, switches: Mapping[str, Any]) -> bool:
    """Return whether a metric exists that these options of a suite leave out.

    >>> switches = {"sets": ["lfw"], "recognition": []}
    >>> left_out("fiqa", "xqlfw_joint_edc_auc_fmr1e-02", switches)
    True
    >>> left_out("fiqa", "lfw_joint_edc_auc_fmr1e-02_by_norm", switches), left_out("fiqa", "lwf_joint", switches)
    (True, False)
    >>> left_out("ijb", "ijbb_rank1", {"sets": ["IJBB"], "protocols": ["1:1"]})
    True
    """
    named = [name for name in SETS.get(suite, ()) if f"{key}_".lower().startswith(f"{name}_".lower())]
    if not named or "sets" not in switches:
        return False
    if not set(named) & set(switches["sets"]):
        return True
    if "_by_" in key:
        return key.rpartition("_by_")[2] not in switches.get("recognition", ())
    if suite == "ijb" and any(part in key for part in _ONE_TO_MANY):
        return "1:N" not in switches.get("protocols", ())
    return suite == "lq" and key.startswith("crlfw_") and key[6:].isdigit() and int(key[6:]) not in switches.get(
        "crlfw_sides", ()
    )
