"""Suite `hq`: verification accuracy over ten folds on LFW, CFP-FP, CPLFW, CALFW, AgeDB-30 and other sets of pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.config.evaluation import Hq
from stages.core.metrics import rates
from stages.core.metrics.features import Embed
from stages.core.metrics.suite_result import ROC, Measured, Score, Table, describe_failures, describe_rates, roc_rows
from stages.protocols import verification
from stages.suites import _groups, _pairs

FMRS = (1e-1, 1e-2, 1e-3)
# the sets whose mean the tables call HQ Avg.; CFP-FF and VGG2-FP are beside it
AVERAGED = ("lfw", "cfp_fp", "cplfw", "calfw", "agedb_30")


def measure(folder: Path, switches: Hq, embed: Embed, scores: Mapping[str, Score]) -> Measured:
    """Evaluate each set; ``avg`` is the mean accuracy over the tables' five, with a reason where one of them lacks.

    Args:
        folder: holds ``NAME.bin`` for each set, or a folder ``NAME`` with pictures and pairs.
        switches: sets, fusion, threshold.
        embed: the backbone.
        scores: quality methods, not used here.

    Raises:
        FileNotFoundError: a set is missing.
        ValueError: a file cannot be used, or more images than ``max_failed`` fail.
    """
    measured = Measured(details={"protocol": {"verification": verification.VERSION}, "sets": {}})
    roc = Table(ROC)
    for name in switches.sets:
        pairs = _pairs.embed_pairs(folder, name, switches, embed, f"hq {name}")
        details = _measure_pairs(pairs)
        groups = _groups.listed(pairs)
        if groups is None and switches.quality_levels:
            groups = _groups.by_known_quality(folder, name, pairs)
        by_group, of_groups = _groups.measure(name, pairs, switches.group_fmr, groups)
        chosen = details if switches.threshold == "grid" else details["exact_threshold"]
        measured.metrics[name] = chosen["accuracy"]
        measured.metrics |= by_group
        measured.details["sets"][name] = {**details, **of_groups}
        roc.rows += roc_rows(name, pairs.cosine_P[pairs.is_same_P], pairs.cosine_P[~pairs.is_same_P])
    lacking = [name for name in AVERAGED if name not in measured.metrics]
    if lacking:
        measured.details["avg"] = {"reason": f"needs {', '.join(lacking)}"}
    else:
        measured.metrics["avg"] = mean_accuracy(measured.metrics, AVERAGED)
    measured.curves["roc"] = roc
    return measured


def mean_accuracy(metrics: Mapping[str, float], names: Sequence[str]) -> float:
    """Return the mean accuracy over named sets, every one of which was measured."""
    return sum(metrics[name] for name in names) / len(names)


def _measure_pairs(pairs: _pairs.Pairs) -> dict[str, Any]:
    compared = (pairs.distance_P, pairs.is_same_P, pairs.fold_P)
    genuine_G, impostor_I = pairs.cosine_P[pairs.is_same_P], pairs.cosine_P[~pairs.is_same_P]
    return {
        "pairs": int(pairs.is_same_P.size),
        "genuine": int(genuine_G.size),
        **_pairs.describe_folds(verification.of_distances(*compared)),
        "exact_threshold": _pairs.describe_folds(verification.of_distances_exact(*compared)),
        "tar_at_far": describe_rates(rates.read_rates(genuine_G, impostor_I, FMRS)),
        "mean_feature_norm": pairs.processed.mean_feature_norm,
        **describe_failures(pairs.processed),
    }
