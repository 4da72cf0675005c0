"""Compares the people of test sets with the identities of a training set, for `facet overlap`.

Shapes: N images, Q people of a test set, C identities.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse.csgraph
from numpy.typing import NDArray

from stages.config.evaluation import Hq
from stages.core.errors import InputError
from stages.core.metrics import features, overlap
from stages.core.metrics.features import Fusion, Image
from stages.core.metrics.processing import Failure, decode_aligned
from stages.datasets import truth
from stages.embedding.embedder import Embedder
from stages.protocols import verification
from stages.runtime.progress import Progress
from stages.suites import _pairs
from stages.training.dataset import Records

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Training:
    """Embeddings of a training set's images, at most so many of each identity, and the mean of each identity."""

    records: Records
    row_N: Ids
    """Record of each image."""
    label_N: Ids
    """Row of ``identity_C`` of each image."""
    identity_C: Ids
    embedding_ND: Floats
    centre_CD: Floats

    def images(self, identity: int, count: int) -> list[Image]:
        """Return the first images of an identity, by its row."""
        rows = self.row_N[self.label_N == identity][:count]
        return [decode_aligned(bytes(self.records.images.image_bytes(int(row)))) for row in rows]


@dataclass(frozen=True)
class Found:
    """A person of the test set and the training identity that is flagged."""

    person: int
    rows: list[int]
    names: list[str]
    identity: int
    cosine: float


@dataclass(frozen=True)
class Audit:
    """Result on one test set."""

    name: str
    people: int
    known_by: str
    level: overlap.Level
    found: list[Found]
    pairs: int
    pairs_without: int
    accuracy: float
    accuracy_without: float | None
    reason: str
    """Why there is no accuracy without the flagged people; empty if there is one."""
    image: Any = field(repr=False)


def train(records: Records, embedder: Embedder, fusion: Fusion, per_identity: int) -> Training:
    """Embed the first images of each identity."""
    order_N = np.argsort(records.label_N, kind="stable")
    label_N = records.label_N[order_N]
    begins = np.flatnonzero(np.diff(label_N, prepend=label_N[0] - 1))
    place_N = np.arange(label_N.size) - np.repeat(begins, np.diff(np.append(begins, label_N.size)))
    row_N = np.sort(order_N[place_N < per_identity])
    progress = Progress("overlap training", row_N.size, "images")

    def images() -> Iterator[Image]:
        for row in progress.over(row_N):
            yield decode_aligned(bytes(records.images.image_bytes(int(row))))

    embedding_ND = _embeddings(embedder(images()), fusion)
    identity_C, label_N = np.unique(records.label_N[row_N], return_inverse=True)
    centre_CD = overlap.means(embedding_ND, label_N, identity_C.size)
    return Training(records, row_N, label_N, identity_C, embedding_ND, centre_CD)


def _embeddings(found: features.Features, fusion: Fusion) -> Floats:
    return features.normalise(features.fuse(found, fusion)).astype(np.float64)


def audit(folder: Path, name: str, training: Training, embedder: Embedder, fusion: Fusion, rate: float) -> Audit:
    """Flag the people of a set of pairs who are trained on, and measure accuracy without them."""
    switches = Hq.model_validate({"sets": [name], "fusion": fusion})
    pairs = _pairs.embed_pairs(folder, name, switches, embedder, f"overlap {name}")
    person_N, known_by = people_of(pairs, folder, name)
    embedding_ND = _embeddings(pairs.processed.features, fusion)
    used_N = pairs.processed.processed_N
    num_people = int(person_N.max()) + 1
    person_QD = overlap.means(embedding_ND[used_N], person_N[used_N], num_people)
    sizes_Q = np.bincount(person_N[used_N], minlength=num_people)
    level = overlap.level(training.embedding_ND, training.label_N, training.centre_CD, sizes_Q[sizes_Q > 0], rate)
    near = overlap.nearest(person_QD, training.centre_CD)
    flagged_Q = (near.cosine_Q >= level.threshold) & (sizes_Q > 0)
    found = [
        _found(int(person), near, person_N, pairs)
        for person in np.flatnonzero(flagged_Q)[np.argsort(-near.cosine_Q[flagged_Q], kind="stable")]
    ]
    return _with_accuracy(name, pairs, known_by, level, found, flagged_Q[person_N])


def _found(person: int, near: overlap.Nearest, person_N: Ids, pairs: _pairs.Pairs) -> Found:
    rows = np.flatnonzero(person_N == person).tolist()
    names = [str(row) if pairs.names is None else pairs.names[row] for row in rows]
    return Found(person, rows, names, int(near.identity_Q[person]), float(near.cosine_Q[person]))


def _with_accuracy(
    name: str, pairs: _pairs.Pairs, known_by: tuple[str, int], level: overlap.Level, found: list[Found],
    flagged_N: NDArray[np.bool_],
) -> Audit:  # fmt: skip
    left_P = ~(flagged_N[pairs.first_P] | flagged_N[pairs.second_P])
    fold_P = verification.folds_of(pairs.distance_P, pairs.fold_P)
    accuracy = verification.of_distances(pairs.distance_P, pairs.is_same_P, fold_P).accuracy
    without, reason = None, ""
    try:
        if np.unique(fold_P[left_P]).size < np.unique(fold_P).size:
            raise InputError("a whole fold would be left out")
        without = verification.of_distances(
            pairs.distance_P[left_P], pairs.is_same_P[left_P], fold_P[left_P]
        ).accuracy
    except InputError as error:
        reason = str(error)
    return Audit(
        name, known_by[1], known_by[0], level, found, left_P.size, int(left_P.sum()), accuracy, without, reason,
        pairs.image,
    )  # fmt: skip


def people_of(pairs: _pairs.Pairs, folder: Path, name: str) -> tuple[Ids, tuple[str, int]]:
    """Return the person of each image, and how people are known with their number."""
    num_images = pairs.processed.processed_N.size
    names = pairs.names or tuple(map(str, range(num_images)))
    identity_N = None if pairs.listed is None else pairs.listed.identity_N
    known_by = "identities of its list"
    if identity_N is None and (folder / "truth.parquet").is_file():
        identity_N, known_by = truth.people(folder / "truth.parquet", name, names), "identities of truth.parquet"
    if identity_N is None:
        same_P, known_by = pairs.is_same_P, "genuine pairs alone"
        links = scipy.sparse.coo_array(
            (np.ones(int(same_P.sum()), np.bool_), (pairs.first_P[same_P], pairs.second_P[same_P])),
            shape=(num_images, num_images),
        )
        identity_N = scipy.sparse.csgraph.connected_components(links, directed=False)[1]
    person_N: Ids = np.unique(identity_N, return_inverse=True)[1].astype(np.int64)
    return person_N, (known_by, int(person_N.max()) + 1)


def duplicates(training: Training, at_least: float) -> tuple[list[list[int]], list[tuple[int, int, float]]]:
    """Return groups of records with equal pixels, and pairs of near-duplicates of one identity, by record.

    Args:
        training: what was embedded.
        at_least: cosine of near-duplicates.
    """
    by_pixels: dict[bytes, list[int]] = {}
    for row in training.row_N.tolist():
        image = decode_aligned(bytes(training.records.images.image_bytes(row)))
        by_pixels.setdefault(hashlib.blake2b(image.tobytes(), digest_size=16).digest(), []).append(row)
    equal = [rows for rows in by_pixels.values() if len(rows) > 1]
    together = {tuple(sorted(pair)) for rows in equal for pair in _pairs_of(rows)}
    near = []
    for identity in range(training.identity_C.size):
        rows_M = np.flatnonzero(training.label_N == identity)
        cosine_MM = training.embedding_ND[rows_M] @ training.embedding_ND[rows_M].T
        for i, j in zip(*np.nonzero(np.triu(cosine_MM >= at_least, 1)), strict=True):
            first, second = int(training.row_N[rows_M[i]]), int(training.row_N[rows_M[j]])
            if (first, second) not in together:
                near.append((first, second, float(cosine_MM[i, j])))
    return equal, sorted(near, key=lambda one: -one[2])


def _pairs_of(rows: Sequence[int]) -> Iterator[tuple[int, int]]:
    return ((first, second) for at, first in enumerate(rows) for second in rows[at + 1 :])


def faces(image: Any, rows: Sequence[int], count: int) -> list[Image]:
    """Return the first images of a person that can be read again."""
    read = (image(row) for row in rows[:count])
    return [one for one in read if not isinstance(one, Failure)]
