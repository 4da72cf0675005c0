"""Common part of the suites on pairs: finds and embeds a set, scores its pairs, and maps pairs to images.

Shapes: N images, P pairs, D embedding dimensions.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.config.evaluation import Fiqa, Hq, Lq
from stages.core.errors import InputError
from stages.core.metrics import features, scores
from stages.core.metrics.features import Embed, Image
from stages.core.metrics.processing import Failure, Processed, SharedPass, process
from stages.datasets import pair_list, verification_bin
from stages.protocols import verification
from stages.runtime.progress import Progress

Rows = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Pairs:
    """A set of pairs: features of its images by the configured fusion, and how alike the images of each pair are."""

    processed: Processed
    is_same_P: NDArray[np.bool_]
    cosine_P: NDArray[np.float64]
    distance_P: NDArray[np.float32]
    """Squared L2 distances of the unit embeddings; 4 for a pair with an image that failed."""
    first_P: Rows
    second_P: Rows
    image: Callable[[int], Image | Failure]
    """Returns one image again, by its row."""
    listed: pair_list.PairSet | None = None
    """The list of a set of pictures and pairs; None of a ``.bin`` file, whose images are known by their number."""

    @property
    def names(self) -> tuple[str, ...] | None:
        """Names of the images; None: they are known by their number."""
        return None if self.listed is None else self.listed.names

    @property
    def fold_P(self) -> Rows | None:
        """The fold of each pair; None: ten runs in list order."""
        return None if self.listed is None else self.listed.fold_P


def find(folder: Path, name: str) -> Path:
    """Return where a set of pairs lies: the file ``NAME.bin``, or the folder ``NAME`` with pictures and pairs.

    Raises:
        FileNotFoundError: neither is there.
        ValueError: both are.
    """
    file, listed = folder / f"{name}.bin", folder / name
    if pair_list.is_layout(listed):
        if file.is_file():
            raise InputError(f"{file} and {listed} are both test sets called {name}: rename or move one")
        return listed
    if not file.is_file():
        there = named(folder)
        near = difflib.get_close_matches(name, there, n=1)
        raise FileNotFoundError(
            f"{file} is missing: put the verification set there, or a folder {name} of pictures and pairs, or remove "
            f"{name} from `sets`; {f'did you mean {near[0]}? ' if near else ''}there are {', '.join(there) or 'none'}"
        )
    return file


def named(folder: Path) -> list[str]:
    """Return the names of the sets of pairs in a folder of test sets, sorted."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(one.stem for one in found if one.suffix == ".bin" or (one.is_dir() and pair_list.is_layout(one)))


def embed_pairs(
    folder: Path,
    name: str,
    switches: Hq | Fiqa | Lq,
    embed: Embed,
    label: str,
    change: Callable[[int, Image], Image] = lambda index, image: image,
) -> Pairs:
    """Read a set, embed its images and score its pairs; a pair with an image that failed scores -1.

    Args:
        folder: holds the set.
        name: of the set.
        switches: fusion and how many may fail.
        embed: the backbone.
        label: of the progress lines.
        change: what to do to the image of an index first; of a ``.bin`` file only.

    Raises:
        FileNotFoundError: the set is missing.
        ValueError: it cannot be used, or more images than ``max_failed`` fail.
    """
    path = find(folder, name)
    if path.is_dir():
        return _listed(path, switches, embed, label)
    stored = verification_bin.load(path)

    def image(index: int) -> Image | Failure:
        try:
            return change(index, verification_bin.decode(stored.images[index]))
        except ValueError as error:
            return Failure.of(f"image {index}", error)

    num_images = len(stored.images)
    processed = _embed_each(str(path), image, num_images, embed, switches.max_failed, label)
    embedding_ND = features.normalise(features.fuse(processed.features, switches.fusion))
    is_same_P = np.asarray(stored.is_same, dtype=np.bool_)
    first_P = 2 * np.arange(is_same_P.size)
    return Pairs(
        processed, is_same_P, verification.cosines(embedding_ND, processed.processed_N),
        verification.distances(embedding_ND, first_P, first_P + 1, processed.processed_N), first_P, first_P + 1, image,
    )  # fmt: skip


def _listed(folder: Path, switches: Hq | Fiqa | Lq, embed: Embed, label: str) -> Pairs:
    """Embed each picture of a pair list once."""
    chosen = pair_list.load(folder, swapped=getattr(switches, "stored_swapped", False))
    num_images = len(chosen.names)
    processed = _embed_each(folder.name, chosen.image, num_images, embed, switches.max_failed, label)
    embedding_ND = features.normalise(features.fuse(processed.features, switches.fusion))
    places = (chosen.first_P, chosen.second_P, processed.processed_N)
    progress = Progress(label, chosen.first_P.size, "pairs")
    return Pairs(
        processed, chosen.is_same_P, scores.pair_scores(embedding_ND.astype(np.float64), *places, progress.advance),
        verification.distances(embedding_ND, *places), chosen.first_P, chosen.second_P, chosen.image, chosen,
    )  # fmt: skip


def _embed_each(
    what: str,
    image: Callable[[int], Image | Failure],
    num_images: int,
    embed: Embed | SharedPass,
    max_failed: float,
    label: str,
) -> Processed:
    """Embed the readable images of a set; several processes read a share each."""
    if isinstance(embed, SharedPass):
        return embed.process(what, image, num_images, max_failed=max_failed, label=label)
    return embed_all(what, map(image, range(num_images)), num_images, embed, max_failed, label)


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
