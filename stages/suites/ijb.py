"""Suite `ijb`: TAR at FAR of template pairs on IJB-B and IJB-C, faces aligned from the loose crops."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.benchmarks import Ijb
from stages.core import features, rates
from stages.core.features import Embed
from stages.core.measured import Measured, Score, Table, describe_failures, describe_rates
from stages.core.processing import Processed, process
from stages.datasets import ijb as layout
from stages.progress import Progress
from stages.protocols import ijb_1to1


def measure(folder: Path, switches: Ijb, embed: Embed, scores: Mapping[str, Score]) -> Measured:
    """Measure each set; metrics are read by the published rule, both rules stand in the details.

    Args:
        folder: holds ``ijb/IJBB`` and ``ijb/IJBC``.
        switches: sets, and how features are weighed.
        embed: the backbone.
        scores: quality methods, not used here.

    Raises:
        FileNotFoundError: a list is missing.
        ValueError: a list cannot be used, or more images than ``max_failed`` fail.
    """
    measured = Measured(details={"protocol": {"ijb_1to1": ijb_1to1.VERSION}, "sets": {}})
    roc = Table(("set", "far", "tar"))
    for name in switches.sets:
        chosen = layout.load(folder / "ijb", name)
        progress = Progress(f"ijb {name}", len(chosen.names), "images")
        processed = process(
            name, progress.over(chosen.images()), len(chosen.names), embed, max_failed=switches.max_failed
        )
        compared = _compare(chosen, processed, switches)
        genuine_G, impostor_I = compared.score_P[chosen.is_same_P], compared.score_P[~chosen.is_same_P]
        read = rates.read_rates(genuine_G, impostor_I, ijb_1to1.FMRS)
        for fmr, point in read.nearest.items():
            measured.metrics[f"{name.lower()}_tar_at_far_{fmr:.0e}"] = point.tar
        measured.details["sets"][name] = {
            **_counts(chosen, compared),
            "tar_at_far": describe_rates(read),
            "mean_feature_norm": processed.mean_feature_norm,
            **describe_failures(processed),
        }
        if genuine_G.size and impostor_I.size:
            roc.rows += [(name, point.fmr, point.tar) for point in rates.roc(genuine_G, impostor_I)]
    measured.curves["roc"] = roc
    return measured


def _compare(chosen: layout.IjbSet, processed: Processed, switches: Ijb) -> ijb_1to1.Comparisons:
    fused_ND = features.fuse(processed.features, use_flip=switches.use_flip)
    detector_score_N = chosen.detector_score_N if switches.use_detector_score else None
    weighed_ND = ijb_1to1.weigh(fused_ND, use_norm=switches.use_norm, detector_score_N=detector_score_N)
    progress = Progress(f"ijb {chosen.name}", chosen.first_P.size, "pairs")
    return ijb_1to1.compare(
        weighed_ND, chosen.template_N, chosen.media_N, chosen.first_P, chosen.second_P,
        processed.processed_N, progress.advance,
    )  # fmt: skip


def _counts(chosen: layout.IjbSet, compared: ijb_1to1.Comparisons) -> dict[str, Any]:
    return {
        "pairs": int(chosen.is_same_P.size),
        "genuine": int(chosen.is_same_P.sum()),
        "templates": compared.num_templates,
        "templates_without_processed_image": compared.num_empty_templates,
    }
