"""Suite `ijb`: IJB-B and IJB-C, template verification (1:1) and search of mixed probes (1:N), from loose crops."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stages.config.evaluation import Ijb
from stages.core.metrics import features, identify, pooling, rates
from stages.core.metrics.features import Embed
from stages.core.metrics.processing import Processed
from stages.core.metrics.suite_result import (
    ROC,
    Measured,
    Score,
    Table,
    describe_failures,
    describe_rates,
    finite,
    roc_rows,
    spread_ranks,
)  # fmt: skip
from stages.datasets import ijb as layout
from stages.protocols import ijb_1to1, ijb_1ton
from stages.runtime.progress import Progress
from stages.suites import _pairs


def measure(folder: Path, switches: Ijb, embed: Embed, scores: Mapping[str, Score]) -> Measured:
    """Evaluate each set; metrics use the published rules, the others are in the details.

    Args:
        folder: holds ``ijb/IJBB`` and ``ijb/IJBC``.
        switches: sets, protocols, and how features are weighed.
        embed: the backbone.
        scores: quality methods, not used here.

    Raises:
        FileNotFoundError: a list is missing.
        ValueError: a list cannot be used, or more images than ``max_failed`` fail.
    """
    versions = {"ijb_1to1": ijb_1to1.VERSION, "ijb_1ton": ijb_1ton.VERSION}
    measured = Measured(
        details={"protocol": versions, "sets": {}},
        curves={"roc": Table(ROC), "cmc": Table(("set", "rank", "rate"))},
    )
    for name in switches.sets:
        chosen = layout.load(folder / "ijb", name)
        searched = layout.load_search(folder / "ijb", name) if "1:N" in switches.protocols else None
        processed = _pairs.embed_all(
            name, chosen.images(), len(chosen.names), embed, switches.max_failed, f"ijb {name}"
        )
        details: dict[str, Any] = {
            "mean_feature_norm": processed.mean_feature_norm, **describe_failures(processed)
        }  # fmt: skip
        templates = pool(chosen, processed, switches)
        details["templates"] = int(templates.id_T.size)
        details["templates_without_processed_image"] = int(np.count_nonzero(~templates.filled_T))
        if "1:1" in switches.protocols:
            _verify(chosen, templates, measured, details)
        if searched is not None:
            details["one_to_n"] = _identify(name, searched, templates, measured)
        measured.details["sets"][name] = details
    return measured


def pool(chosen: layout.IjbSet, processed: Processed, switches: Ijb) -> ijb_1to1.Templates:
    """Return the templates of a set, with features weighted as the options say."""
    fused_ND = features.fuse(processed.features, switches.fusion)
    detector_score_N = chosen.detector_score_N if switches.use_detector_score else None
    weighed_ND = ijb_1to1.weigh(fused_ND, use_norm=switches.use_norm, detector_score_N=detector_score_N)
    return ijb_1to1.Templates(
        *pooling.pool_templates(weighed_ND, chosen.template_N, chosen.media_N, processed.processed_N)
    )


def _verify(
    chosen: layout.IjbSet, templates: ijb_1to1.Templates, measured: Measured, details: dict[str, Any]
) -> None:
    progress = Progress(f"ijb {chosen.name}", chosen.first_P.size, "pairs")
    compared = ijb_1to1.compare(templates, chosen.first_P, chosen.second_P, progress.advance)
    genuine_G, impostor_I = compared.sides(chosen.is_same_P)
    read = rates.read_rates(genuine_G, impostor_I, ijb_1to1.FMRS)
    for fmr, point in read.nearest.items():
        measured.metrics[f"{chosen.name.lower()}_tar_at_far_{fmr:.0e}"] = point.tar
    details |= {
        "pairs": int(chosen.is_same_P.size),
        "genuine": int(chosen.is_same_P.sum()),
        "tar_at_far": describe_rates(read),
    }
    measured.curves["roc"].rows += roc_rows(chosen.name, genuine_G, impostor_I)


def _identify(
    name: str, searched: layout.IjbSearch, templates: ijb_1to1.Templates, measured: Measured
) -> dict[str, Any]:
    progress = Progress(f"ijb {name} 1:N", searched.probe_template_P.size, "probes")
    probe_PD, probe_filled_P = templates.rows(searched.probe_template_P)
    gallery_GD, gallery_filled_G = templates.rows(searched.gallery_template_G)
    found = ijb_1ton.identify(
        probe_PD, searched.probe_subject_P, gallery_GD, searched.gallery_subject_G,
        probe_filled_P, gallery_filled_G, tick=progress.advance,
    )  # fmt: skip
    for rank in ijb_1ton.RANKS:
        measured.metrics[f"{name.lower()}_rank{rank}"] = found.rate(rank)
    for fpir, tpir in found.tpir.items():
        measured.metrics[f"{name.lower()}_tpir_at_fpir_{fpir:.0e}"] = tpir
    gallery = int(searched.gallery_subject_G.size)
    measured.curves["cmc"].rows += [(name, rank, found.rate(rank)) for rank in spread_ranks(gallery)]
    return {
        "probes": int(found.rank_P.size),
        "probes_without_mate_left_out": found.num_without_mate,
        "probes_never_found": int(np.count_nonzero(found.rank_P == 0)),
        "gallery": gallery,
        "gallery_without_processed_image": int(np.count_nonzero(~gallery_filled_G)),
        "threshold_at_fpir": {f"{fpir:.0e}": finite(value) for fpir, value in found.threshold.items()},
        "open_set": {
            f"gallery_{number}": _open_set(searched, number, (probe_PD, probe_filled_P), (gallery_GD, gallery_filled_G))
            for number in (1, 2)
        },
    }


def _open_set(searched: layout.IjbSearch, number: int, probes: Any, gallery: Any) -> dict[str, Any]:
    """Return NIST's search in one gallery: probes of the other gallery's subjects set the threshold."""
    in_G = searched.gallery_set_G == number
    subject_G = searched.gallery_subject_G[in_G]
    mated_P = np.isin(searched.probe_subject_P, subject_G)
    if mated_P.all() or not mated_P.any():
        return {"tpir": None, "reason": f"{mated_P.sum()} probes with a mate, {(~mated_P).sum()} without"}
    found = identify.open_set(
        probes[0], searched.probe_subject_P, gallery[0][in_G], subject_G, ijb_1ton.FPIRS,
        probe_processed_P=probes[1], gallery_processed_G=gallery[1][in_G],
    )  # fmt: skip
    return {
        "mated": found.num_mated,
        "non_mated": found.num_non_mated,
        "tpir": {f"{fpir:.0e}": value for fpir, value in found.tpir.items()},
        "fpir_read": {f"{fpir:.0e}": value for fpir, value in found.fpir.items()},
        "threshold": {f"{fpir:.0e}": finite(value) for fpir, value in found.threshold.items()},
    }
