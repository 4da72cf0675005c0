"""Suite `lq`: closed-set identification of low-quality probes on TinyFace and SCface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.benchmarks import Lq
from stages.core import features
from stages.core.features import Embed
from stages.core.measured import Measured, Score, Table, describe_failures
from stages.core.processing import Processed, process
from stages.datasets import scface, tinyface
from stages.progress import Progress
from stages.protocols import identification

TINYFACE_RANKS = (1, 5, 20)

_CURVE_POINTS = 200

Mask = NDArray[np.bool_]


def measure(folder: Path, switches: Lq, embed: Embed, scores: Mapping[str, Score]) -> Measured:
    """Measure each set.

    Args:
        folder: holds ``tinyface`` and ``scface``.
        switches: sets, and whether the flip is used.
        embed: the backbone.
        scores: quality methods, not used here.

    Raises:
        FileNotFoundError: a list is missing.
        ValueError: a list cannot be used, or more images than ``max_failed`` fail.
    """
    measured = Measured(
        details={"protocol": {"identification": identification.VERSION}, "sets": {}},
        curves={"cmc": Table(("set", "rank", "rate"))},
    )
    measure_set = {"tinyface": _measure_tinyface, "scface": _measure_scface}
    for name in switches.sets:
        measure_set[name](folder / name, switches, embed, measured)
    return measured


def _measure_tinyface(folder: Path, switches: Lq, embed: Embed, measured: Measured) -> None:
    chosen = tinyface.load(folder)
    progress = Progress("lq tinyface", len(chosen.names), "images")
    processed = process(
        "tinyface", progress.over(chosen.images()), len(chosen.names), embed, max_failed=switches.max_failed
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
    chosen = scface.load(folder)
    progress = Progress("lq scface", len(chosen.names), "images")
    processed = process(
        "scface", progress.over(chosen.images()), len(chosen.names), embed, max_failed=switches.max_failed
    )
    in_gallery_N = chosen.distance_N == 0
    details: dict[str, Any] = {
        "gallery": int(in_gallery_N.sum()),
        "left_out_cameras_6_to_8": chosen.num_left_out,
    }
    for distance in scface.DISTANCES:
        found = _search(processed, switches, chosen.subject_N, chosen.distance_N == distance, in_gallery_N)
        measured.metrics[f"scface_d{distance}"] = found.rate(1)
        details[f"d{distance}"] = _counts(found, gallery=int(in_gallery_N.sum()))
        _draw(measured, f"scface_d{distance}", found, int(in_gallery_N.sum()))
    measured.details["sets"]["scface"] = {
        **details, "mean_feature_norm": processed.mean_feature_norm, **describe_failures(processed)
    }  # fmt: skip


def _search(
    processed: Processed, switches: Lq, subject_N: NDArray[np.int64], probe_N: Mask, gallery_N: Mask
) -> identification.ClosedSet:
    embedding_ND = features.normalise(features.fuse(processed.features, use_flip=switches.use_flip))
    ok_N = processed.processed_N
    return identification.closed_set(
        embedding_ND[probe_N], subject_N[probe_N], embedding_ND[gallery_N], subject_N[gallery_N],
        ok_N[probe_N], ok_N[gallery_N],
    )  # fmt: skip


def _counts(found: identification.ClosedSet, gallery: int) -> dict[str, int]:
    return {
        "probes": int(found.rank_P.size),
        "probes_without_mate_left_out": found.num_without_mate,
        "probes_never_found": int(np.count_nonzero(found.rank_P == 0)),
        "gallery": gallery,
    }


def _draw(measured: Measured, name: str, found: identification.ClosedSet, gallery: int) -> None:
    measured.curves["cmc"].rows += [(name, rank, found.rate(rank)) for rank in _spread_ranks(gallery)]


def _spread_ranks(last: int) -> Sequence[int]:
    """Return ranks from 1 to ``last``: all, or if too many, the first hundred and then ever wider apart."""
    if last <= _CURVE_POINTS:
        return range(1, last + 1)
    half = _CURVE_POINTS // 2
    wider = np.geomspace(half, last, _CURVE_POINTS - half + 1)[1:].round().astype(int)
    return [*range(1, half + 1), *np.unique(wider[wider > half]).tolist()]
