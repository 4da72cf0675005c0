"""IJB-B, IJB-C and IJB-S with templates that are pooled with quality scores as weights, for the suite `fiqa`.

Shapes: N images, P pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from stages.config.evaluation import Fiqa
from stages.core.metrics import features, pooling, rates
from stages.core.metrics.processing import Processed
from stages.core.metrics.suite_result import Measured, describe_rates
from stages.datasets import ijb
from stages.datasets.ijbs import PROTOCOLS, IjbsSet
from stages.protocols import ijb_1to1, ijbs

UNIT, NORM = "unit", "norm"
"""Beside the methods: all images alike, and each with the norm of its fused feature (AdaFace's published rule)."""

Floats = NDArray[np.float64]
Features = NDArray[np.floating[Any]]


def measure(
    measured: Measured,
    folder: Path,
    name: str,
    switches: Fiqa,
    processed: Processed,
    quality: Mapping[str, Floats],
) -> dict[str, Any]:
    """Verify the set's pairs with templates pooled in each way; return the details.

    Metrics: ``SET_pooled_by_METHOD_tar_at_far_RATE``, by the published rule as in suite `ijb`.

    Args:
        measured: gets the metrics.
        folder: holds ``ijb/IJBC``.
        name: of the set.
        switches: fusion of image and flip.
        processed: its images.
        quality: scores of each image by method, -inf for one that was not processed or assessed.
    """
    chosen = ijb.load(folder / "ijb", name)
    details: dict[str, Any] = {}
    for way, weighed_ND in _ways(processed, switches, quality):
        templates = ijb_1to1.Templates(
            *pooling.pool_templates(weighed_ND, chosen.template_N, chosen.media_N, processed.processed_N)
        )
        compared = ijb_1to1.compare(templates, chosen.first_P, chosen.second_P)
        read = rates.read_rates(*compared.sides(chosen.is_same_P), ijb_1to1.FMRS)
        for fmr, point in read.nearest.items():
            measured.metrics[f"{name}_pooled_by_{way}_tar_at_far_{fmr:.0e}"] = point.tar
        details[way] = {"tar_at_far": describe_rates(read)}
    return details


def search(
    measured: Measured, chosen: IjbsSet, switches: Fiqa, processed: Processed, quality: Mapping[str, Floats]
) -> dict[str, Any]:
    """Run IJB-S's five searches with templates pooled in each way; return the details.

    Metrics: ``ijbs_pooled_by_METHOD_PROTOCOL_rank1`` and others, as in suite `lq`.

    Args:
        measured: gets the metrics.
        chosen: the set.
        switches: fusion of image and flip.
        processed: its faces.
        quality: scores of each face by method, -inf for one that was not processed or assessed.
    """
    details: dict[str, Any] = {}
    for way, weighed_ND in _ways(processed, switches, quality):
        templates = ijbs.pool(weighed_ND, *chosen.frame_template, chosen.subject_T, processed.processed_N)
        tree: dict[str, Any] = {}
        for protocol in PROTOCOLS:
            galleries = (chosen.gallery1[protocol], chosen.gallery2[protocol])
            found = ijbs.search(templates, chosen.probes[protocol], *galleries)
            for key, value in ijbs.summary(found).items():
                measured.metrics[f"ijbs_pooled_by_{way}_{protocol}_{key}"] = value
            reasons = [reason for reason in found.reasons if reason is not None]
            tree[protocol] = {"probes": int(found.closed.rank_P.size)} | ({"reason": reasons[0]} if reasons else {})
        details[way] = tree
    return details


def _ways(processed: Processed, switches: Fiqa, quality: Mapping[str, Floats]) -> Iterator[tuple[str, Features]]:
    """Yield each way of pooling with the features to be added: their length is their weight."""
    fused_ND = features.fuse(processed.features, switches.fusion)
    unit_ND = features.normalise(fused_ND)
    yield UNIT, unit_ND
    yield NORM, fused_ND
    for method, quality_N in quality.items():
        yield method, unit_ND * weights(quality_N).astype(np.float32)[:, np.newaxis]


def weights(quality_N: Floats) -> Floats:
    """Return each image's weight in (0, 1): its rank by score among the set's images.

    Scores of different methods have different ranges, some below zero; their ranks are comparable. An image without a
    score weighs as little as the worst.

    >>> weights(np.array([0.3, -7.0, 0.3, -np.inf])).tolist()
    [0.75, 0.375, 0.75, 0.125]
    """
    rank_N: Floats = scipy.stats.rankdata(quality_N)
    weight_N: Floats = (rank_N - 0.5) / max(quality_N.size, 1)
    return weight_N
