"""Common part of the suites on pairs: embeds a set, scores its pairs, and maps pairs to images.

Shapes: N images, P pairs, D embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.config.evaluation import Fiqa, Hq, Lq
from stages.core.metrics import features
from stages.core.metrics.features import Embed, Floats, Image
from stages.core.metrics.processing import Failure, Processed, process
from stages.datasets import verification_bin
from stages.protocols import verification
from stages.runtime.progress import Progress


@dataclass(frozen=True)
class Pairs:
    """One ``.bin`` set: features, unit embeddings by the configured fusion, and the cosine of each pair."""

    processed: Processed
    embedding_ND: Floats
    is_same_P: NDArray[np.bool_]
    cosine_P: NDArray[np.float64]
    image: Callable[[int], Image | Failure]
    """Returns one image again, by its index."""


def embed_pairs(
    folder: Path,
    name: str,
    switches: Hq | Fiqa | Lq,
    embed: Embed,
    label: str,
    change: Callable[[int, Image], Image] = lambda index, image: image,
) -> Pairs:
    """Read ``NAME.bin``, embed its images and score its pairs; a pair with an image that failed scores -1.

    Args:
        folder: holds the file.
        name: of the set.
        switches: fusion and how many may fail.
        embed: the backbone.
        label: of the progress lines.
        change: what to do to the image of an index first.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it cannot be used, or more images than ``max_failed`` fail.
    """
    path = folder / f"{name}.bin"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: put the verification set there, or remove {name} from `sets`")
    stored = verification_bin.load(path)

    def image(index: int) -> Image | Failure:
        try:
            return change(index, verification_bin.decode(stored.images[index]))
        except ValueError as error:
            return Failure.of(f"image {index}", error)

    num_images = len(stored.images)
    images = map(image, range(num_images))
    processed = embed_all(str(path), images, num_images, embed, switches.max_failed, label)
    embedding_ND = features.normalise(features.fuse(processed.features, switches.fusion))
    is_same_P = np.asarray(stored.is_same, dtype=np.bool_)
    return Pairs(processed, embedding_ND, is_same_P, verification.cosines(embedding_ND, processed.processed_N), image)


def embed_all(
    what: str, images: Iterable[Image | Failure], num_images: int, embed: Embed, max_failed: float, label: str
) -> Processed:
    """Embed the readable images of a set and show progress."""
    progress = Progress(label, num_images, "images")
    return process(what, progress.over(images), num_images, embed, max_failed=max_failed)


def describe_folds(folds: verification.Folds) -> dict[str, Any]:
    """Return accuracies as fractions and thresholds as squared L2 distances."""
    return {
        "accuracy": folds.accuracy,
        "accuracy_std": float(folds.accuracy_F.std()),
        "accuracy_per_fold": folds.accuracy_F.tolist(),
        "threshold_per_fold": folds.threshold_F.tolist(),
    }
