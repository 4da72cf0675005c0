"""Comparisons of the suite `fiqa`: pairs of a ``.bin`` set, of a pair list, or of IJB templates, with qualities.

As CR-FIQA ERC/README.md and IJB-C Evaluation/ijb_qs_pair_file.py at a8f98da6: a pair is as good as its worse
side, a template as its worst image.

Shapes: N images, P pairs, T templates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.config.evaluation import Fiqa
from stages.core.metrics import features, pooling, scores
from stages.core.metrics.features import Embed, Image
from stages.core.metrics.processing import Failure, Processed
from stages.datasets import ijb
from stages.protocols import discard, ijb_1to1
from stages.runtime.progress import Progress
from stages.suites import _pairs

TEMPLATES = ("IJBB", "IJBC")

Floats = NDArray[np.floating[Any]]
Rows = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Compared:
    """A set's embedded images, its scored pairs, and the map from image qualities to pair qualities."""

    processed: Processed
    cosine_P: NDArray[np.float64]
    is_same_P: NDArray[np.bool_]
    pair_quality: Callable[[Floats], Floats]
    first_P: Rows
    second_P: Rows
    """Rows of the compared images or templates."""
    image: Callable[[int], Image | Failure]
    """Returns one image again, by its row: aligned, uint8 (112, 112, 3), BGR."""
    names: tuple[str, ...] | None = None  # of the images; None: they are known by their number
    side_N: Rows | None = None  # row of the template each image belongs to; None: images are compared
    identity_N: NDArray[np.int64] | None = None  # who is on each image, as the list of a set says; None if it does not


def compare(folder: Path, name: str, switches: Fiqa, embed: Embed) -> Compared:
    """Read, embed and compare one set.

    Raises:
        FileNotFoundError: it is missing.
        ValueError: it cannot be used, or more images than ``max_failed`` fail.
    """
    if name in TEMPLATES:
        return _templates(folder / "ijb", name, switches, embed)
    pairs = _pairs.embed_pairs(folder, name, switches, embed, f"fiqa {name}")
    return Compared(
        pairs.processed, pairs.cosine_P, pairs.is_same_P,
        lambda quality_N: discard.pair_quality(quality_N, pairs.first_P, pairs.second_P),
        pairs.first_P, pairs.second_P, pairs.image, pairs.names,
        identity_N=None if pairs.listed is None else pairs.listed.identity_N,
    )  # fmt: skip


def _templates(folder: Path, name: str, switches: Fiqa, embed: Embed) -> Compared:
    chosen = ijb.load(folder, name)
    processed = _pairs.embed_all(
        name, chosen.images(), len(chosen.names), embed, switches.max_failed, f"fiqa {name}"
    )
    # CR-FIQA pools unit features: norms are no weights here
    embedding_ND = features.normalise(features.fuse(processed.features, switches.fusion))
    templates = ijb_1to1.Templates(
        *pooling.pool_templates(embedding_ND, chosen.template_N, chosen.media_N, processed.processed_N)
    )
    progress = Progress(f"fiqa {name}", chosen.first_P.size, "pairs")
    row_N, first_P, second_P = (
        ijb_1to1.rows_of(templates.id_T, ids) for ids in (chosen.template_N, chosen.first_P, chosen.second_P)
    )
    cosine_P = scores.pair_scores(templates.embedding_TD, first_P, second_P, templates.filled_T, progress.advance)

    def pair_quality(quality_N: Floats) -> Floats:
        quality_T = discard.template_quality(quality_N, row_N, templates.id_T.size)
        return discard.pair_quality(quality_T, first_P, second_P)

    names = tuple(f"loose_crop/{image}" for image in chosen.names)
    return Compared(
        processed, cosine_P, chosen.is_same_P, pair_quality, first_P, second_P, chosen.image, names, row_N
    )
