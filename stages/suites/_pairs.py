"""What the suites on verification ``.bin`` sets share: a set embedded, its pairs scored.

Shapes: N = 2P images, P pairs, D embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.benchmarks import Fiqa, Hq
from stages.core import features
from stages.core.features import Embed, Floats, Image
from stages.core.processing import Failure, Processed, process
from stages.datasets import verification_bin
from stages.progress import Progress
from stages.protocols import verification


@dataclass(frozen=True)
class Pairs:
    """One set: features, unit embeddings fused as the switches say, and the cosine of each pair."""

    processed: Processed
    embedding_ND: Floats
    is_same_P: NDArray[np.bool_]
    cosine_P: NDArray[np.float64]


def embed_pairs(folder: Path, name: str, switches: Hq | Fiqa, embed: Embed, label: str) -> Pairs:
    """Read ``NAME.bin``, embed its images and score its pairs; a pair with an image that failed scores -1.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it cannot be used, or more images than ``max_failed`` fail.
    """
    path = folder / f"{name}.bin"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: put the verification set there, or take {name} out of `sets`")
    stored = verification_bin.load(path)
    progress = Progress(label, len(stored.images), "images")
    processed = process(
        str(path), progress.over(_images(stored)), len(stored.images), embed, max_failed=switches.max_failed
    )
    fused_ND = features.fuse(processed.features, use_flip=switches.fusion == "pre_norm_sum")
    embedding_ND = features.normalise(fused_ND)
    is_same_P = np.asarray(stored.is_same, dtype=np.bool_)
    return Pairs(processed, embedding_ND, is_same_P, verification.cosines(embedding_ND, processed.processed_N))


def _images(stored: verification_bin.VerificationSet) -> Iterator[Image | Failure]:
    for index, image in enumerate(stored.images):
        try:
            yield verification_bin.decode(image)
        except ValueError as error:
            yield Failure.of(f"image {index}", error)
