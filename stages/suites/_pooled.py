"""IJB 1:1 verification of templates that are pooled with quality scores as weights, for the suite `fiqa`.

Shapes: N images, P pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
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
from stages.protocols import ijb_1to1

UNIT, NORM = "unit", "norm"
"""Beside the methods: all images alike, and each with the norm of its fused feature (AdaFace's published rule)."""

Floats = NDArray[np.float64]


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
    fused_ND = features.fuse(processed.features, switches.fusion)
    unit_ND = features.normalise(fused_ND)
    ways = {UNIT: unit_ND, NORM: fused_ND}
    for method, quality_N in quality.items():
        ways[method] = unit_ND * weights(quality_N).astype(np.float32)[:, np.newaxis]
    details: dict[str, Any] = {}
    for way, weighed_ND in ways.items():
        templates = ijb_1to1.Templates(
            *pooling.pool_templates(weighed_ND, chosen.template_N, chosen.media_N, processed.processed_N)
        )
        compared = ijb_1to1.compare(templates, chosen.first_P, chosen.second_P)
        read = rates.read_rates(*compared.sides(chosen.is_same_P), ijb_1to1.FMRS)
        for fmr, point in read.nearest.items():
            measured.metrics[f"{name}_pooled_by_{way}_tar_at_far_{fmr:.0e}"] = point.tar
        details[way] = {"tar_at_far": describe_rates(read)}
    return details


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
