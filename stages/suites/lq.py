"""Suite `lq`: identification of low-quality probes on TinyFace, SCface and IJB-S, and LFW shrunk on one side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.config.evaluation import Lq
from stages.core.images import low_resolution
from stages.core.metrics import features
from stages.core.metrics.features import Embed, Image
from stages.core.metrics.identify import ClosedSet, OpenSet
from stages.core.metrics.processing import Processed
from stages.core.metrics.suite_result import (
    ROC,
    Measured,
    Score,
    Table,
    describe_failures,
    finite,
    roc_rows,
    spread_ranks,
)
from stages.datasets import ijbs as ijbs_layout
from stages.datasets import scface, tinyface
from stages.protocols import identification, ijbs, verification
from stages.runtime.progress import Progress
from stages.suites import _pairs

TINYFACE_RANKS = (1, 5, 20)

Mask = NDArray[np.bool_]


def measure(folder: Path, switches: Lq, embed: Embed, scores: Mapping[str, Score]) -> Measured:
    """Evaluate each set.

    Args:
        folder: holds ``tinyface``, ``scface`` and ``ijbs``, and ``lfw.bin`` for CRLFW.
        switches: sets and fusions.
        embed: the backbone.
        scores: quality methods, not used here.

    Raises:
        FileNotFoundError: a list is missing.
        ValueError: a list cannot be used, or more images than ``max_failed`` fail.
    """
    versions = {
        "identification": identification.VERSION, "ijbs": ijbs.VERSION, "verification": verification.VERSION
    }  # fmt: skip
    measured = Measured(
        details={"protocol": versions, "sets": {}},
        curves={"cmc": Table(("set", "rank", "rate")), "roc": Table(ROC)},
    )
    measure_set = {
        "tinyface": _measure_tinyface, "scface": _measure_scface, "ijbs": _measure_ijbs, "crlfw": _measure_crlfw
    }  # fmt: skip
    for name in switches.sets:
        measure_set[name](folder, switches, embed, measured)
    return measured


def _measure_tinyface(folder: Path, switches: Lq, embed: Embed, measured: Measured) -> None:
    chosen = tinyface.load(folder / "tinyface")
    processed = _pairs.embed_all(
        "tinyface", chosen.images(), len(chosen.names), embed, switches.max_failed, "lq tinyface"
    )
    is_probe_N = np.arange(len(chosen.names)) < chosen.num_probes
    found = _search(processed, switches, chosen.subject_N, is_probe_N, ~is_probe_N)
    for rank in TINYFACE_RANKS:
        measured.metrics[f"tinyface_rank{rank}"] = found.rate(rank)
    measured.details["sets"]["tinyface"] = {
        **_counts(found, gallery=int((~is_probe_N).sum())),
        "distractors": int(np.sum(chosen.subject_N == tinyface.NOBODY)),
        "mean_feature_norm": processed.mean_feature_norm,
        **describe_failures(processed),
    }
    _draw(measured, "tinyface", found, int((~is_probe_N).sum()))


def _measure_scface(folder: Path, switches: Lq, embed: Embed, measured: Measured) -> None:
    chosen = scface.load(folder / "scface")
    processed = _pairs.embed_all("scface", chosen.images(), len(chosen.names), embed, switches.max_failed, "lq scface")
    in_gallery_N = chosen.distance_N == 0
    details: dict[str, Any] = {
        "gallery": int(in_gallery_N.sum()),
        "left_out_cameras_6_to_8": chosen.num_left_out,
        # papers that fine-tune on 50 subjects and test on the other 80 have other numbers
        "subjects_held_out_for_tuning": 0,
    }
    for distance in scface.DISTANCES:
        found = _search(processed, switches, chosen.subject_N, chosen.distance_N == distance, in_gallery_N)
        measured.metrics[f"scface_d{distance}"] = found.rate(1)
        details[f"d{distance}"] = _counts(found, gallery=int(in_gallery_N.sum()))
        _draw(measured, f"scface_d{distance}", found, int(in_gallery_N.sum()))
    measured.details["sets"]["scface"] = {
        **details, "mean_feature_norm": processed.mean_feature_norm, **describe_failures(processed)
    }  # fmt: skip


def _measure_ijbs(folder: Path, switches: Lq, embed: Embed, measured: Measured) -> None:
    chosen = ijbs_layout.load(folder / "ijbs")
    processed = _pairs.embed_all("ijbs", chosen.images(), len(chosen.names), embed, switches.max_failed, "lq ijbs")
    fused_ND = features.fuse(processed.features, switches.ijbs_fusion)
    weighed_ND = fused_ND if switches.ijbs_use_norm else features.normalise(fused_ND)
    templates = ijbs.pool(weighed_ND, *chosen.frame_template, chosen.subject_T, processed.processed_N)
    details: dict[str, Any] = {
        "templates": int(chosen.subject_T.size),
        "templates_without_processed_face": int(np.count_nonzero(~templates.filled_T)),
        "faces_no_template_uses": chosen.num_unused,
    }
    for protocol in ijbs_layout.PROTOCOLS:
        galleries = (chosen.gallery1[protocol], chosen.gallery2[protocol])
        found = ijbs.search(templates, chosen.probes[protocol], *galleries)
        for key, value in ijbs.summary(found).items():
            measured.metrics[f"ijbs_{protocol}_{key}"] = value
        gallery = sum(int(rows_G.size) for rows_G in galleries)
        details[protocol] = {
            **_counts(found.closed, gallery),
            "open_set": {
                f"gallery_{number}": _describe_open(opened, reason)
                for number, opened, reason in zip((1, 2), found.open_sets, found.reasons, strict=True)
            },
        }
        _draw(measured, f"ijbs_{protocol}", found.closed, gallery)
    measured.details["sets"]["ijbs"] = {
        **details, "mean_feature_norm": processed.mean_feature_norm, **describe_failures(processed)
    }  # fmt: skip


def _describe_open(opened: OpenSet | None, reason: str | None) -> dict[str, Any]:
    tree: dict[str, Any] = {} if reason is None else {"reason": reason}
    if opened is not None:
        tree |= {"mated": opened.num_mated, "non_mated": opened.num_non_mated}
        for key, by_target in (("tpir", opened.tpir), ("fpir_read", opened.fpir), ("threshold", opened.threshold)):
            tree[key] = {f"{target:.0e}": finite(value) for target, value in by_target.items()}
    return tree


def _measure_crlfw(folder: Path, switches: Lq, embed: Embed, measured: Measured) -> None:
    details: dict[str, Any] = {}
    for side in switches.crlfw_sides:
        pairs = _pairs.embed_pairs(
            folder, "lfw", switches, embed, f"lq crlfw {side}", _shrink_first(side)
        )  # fmt: skip
        folds = verification.of_distances(pairs.distance_P, pairs.is_same_P)
        measured.metrics[f"crlfw_{side}"] = folds.accuracy
        details |= {"pairs": int(pairs.is_same_P.size), "genuine": int(pairs.is_same_P.sum())}
        details[f"{side}_pixels"] = {
            "pairs": int(pairs.is_same_P.size), **_pairs.describe_folds(folds),
            "mean_feature_norm": pairs.processed.mean_feature_norm, **describe_failures(pairs.processed),
        }  # fmt: skip
        genuine_G, impostor_I = pairs.cosine_P[pairs.is_same_P], pairs.cosine_P[~pairs.is_same_P]
        measured.curves["roc"].rows += roc_rows(f"crlfw_{side}", genuine_G, impostor_I)
    measured.details["sets"]["crlfw"] = details


def _shrink_first(side: int) -> Callable[[int, Image], Image]:
    """Return a function that shrinks the first image of each pair: those of even index."""
    return lambda index, image: image if index % 2 else low_resolution.through(image, side)


def _search(
    processed: Processed, switches: Lq, subject_N: NDArray[np.int64], probe_N: Mask, gallery_N: Mask
) -> ClosedSet:
    embedding_ND = features.normalise(features.fuse(processed.features, switches.fusion))
    ok_N = processed.processed_N
    progress = Progress("lq search", int(probe_N.sum()), "probes")
    return identification.closed_set(
        embedding_ND[probe_N], subject_N[probe_N], embedding_ND[gallery_N], subject_N[gallery_N],
        ok_N[probe_N], ok_N[gallery_N], progress.advance,
    )  # fmt: skip


def _counts(found: ClosedSet, gallery: int) -> dict[str, int]:
    return {
        "probes": int(found.rank_P.size),
        "probes_without_mate_left_out": found.num_without_mate,
        "probes_never_found": int(np.count_nonzero(found.rank_P == 0)),
        "gallery": gallery,
    }


def _draw(measured: Measured, name: str, found: ClosedSet, gallery: int) -> None:
    measured.curves["cmc"].rows += [(name, rank, found.rate(rank)) for rank in spread_ranks(gallery)]
