"""Suite `hq`: verification accuracy over ten folds on LFW, CFP-FP, CPLFW, CALFW, AgeDB-30 and their like."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.benchmarks import Hq
from stages.core import rates
from stages.core.features import Embed
from stages.core.measured import Measured, Score, Table, describe_failures, describe_rates
from stages.protocols import verification
from stages.suites import _pairs

FMRS = (1e-1, 1e-2, 1e-3)


def measure(folder: Path, switches: Hq, embed: Embed, scores: Mapping[str, Score]) -> Measured:
    """Measure each set; ``avg`` is the mean of their accuracies.

    Args:
        folder: holds ``NAME.bin`` for each set.
        switches: sets and fusion.
        embed: the backbone.
        scores: quality methods, not used here.

    Raises:
        FileNotFoundError: a set is missing.
        ValueError: a file cannot be used, or more images than ``max_failed`` fail.
    """
    measured = Measured(details={"protocol": {"verification": verification.VERSION}, "sets": {}})
    roc = Table(("set", "far", "tar"))
    for name in switches.sets:
        pairs = _pairs.embed_pairs(folder, name, switches, embed, f"hq {name}")
        details = _measure_pairs(pairs)
        measured.metrics[name] = details["accuracy"]
        measured.details["sets"][name] = details
        genuine_G, impostor_I = pairs.cosine_P[pairs.is_same_P], pairs.cosine_P[~pairs.is_same_P]
        if genuine_G.size and impostor_I.size:
            roc.rows += [(name, point.fmr, point.tar) for point in rates.roc(genuine_G, impostor_I)]
    measured.metrics["avg"] = sum(measured.metrics.values()) / len(switches.sets)
    measured.curves["roc"] = roc
    return measured


def _measure_pairs(pairs: _pairs.Pairs) -> dict[str, Any]:
    folds = verification.evaluate(pairs.embedding_ND, pairs.is_same_P, pairs.processed.processed_N)
    genuine_G, impostor_I = pairs.cosine_P[pairs.is_same_P], pairs.cosine_P[~pairs.is_same_P]
    return {
        "pairs": int(pairs.is_same_P.size),
        "genuine": int(genuine_G.size),
        "accuracy": folds.accuracy,
        "accuracy_std": float(folds.accuracy_F.std()),
        "accuracy_per_fold": folds.accuracy_F.tolist(),
        "threshold_per_fold": folds.threshold_F.tolist(),
        "tar_at_far": describe_rates(rates.read_rates(genuine_G, impostor_I, FMRS)),
        "mean_feature_norm": pairs.processed.mean_feature_norm,
        **describe_failures(pairs.processed),
    }
