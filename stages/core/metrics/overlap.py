"""Finds people of a test set among the identities of a training set, by cosines of mean embeddings.

Each person is compared with every identity; the nearest one is the candidate. The threshold comes from the training
set itself, whose people are known: for each identity some of its images are set aside and averaged, as many as a person
of the test set has, and the nearest *other* identity is found. A person of whom no image was trained on would be
flagged as often as these are: that is the false alarm rate. How many of them are nearest to the rest of their own
images, at the threshold, is the recall to expect.

Shapes: N images, C identities, Q people of the test set, D dimensions. Embeddings have unit length.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import InputError

Floats = NDArray[np.float64]
Numbers = NDArray[np.floating[Any]]
Ids = NDArray[np.int64]

_CHUNK = 1024


@dataclass(frozen=True)
class Level:
    """A threshold and what it is worth, measured among the training identities."""

    threshold: float
    false_alarm: float
    """Share of people who are nobody else's that are flagged nevertheless."""
    recall: float
    """Share of people who are there that are flagged with their own identity."""
    people: int
    """Identities with enough images to be asked."""


@dataclass(frozen=True)
class Nearest:
    """The nearest identity of each person."""

    identity_Q: Ids
    cosine_Q: Floats


def means(embedding_ND: Numbers, group_N: Ids, num_groups: int) -> Floats:
    """Return the unit mean embedding of each group; zero for one without images.

    >>> means(np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]), np.array([0, 0, 2]), 3).round(2).tolist()
    [[0.71, 0.71], [0.0, 0.0], [0.0, 1.0]]
    """
    total_CD = np.zeros((num_groups, embedding_ND.shape[1]), np.float64)
    np.add.at(total_CD, group_N, embedding_ND.astype(np.float64))
    return unit(total_CD)


def unit(value_ND: Numbers) -> Floats:
    """Return rows at unit length; zero rows stay."""
    length_N1 = np.linalg.norm(value_ND, axis=1, keepdims=True)
    found: Floats = np.divide(value_ND, length_N1, out=np.zeros(value_ND.shape, np.float64), where=length_N1 > 0)
    return found


def nearest(person_QD: Floats, centre_CD: Floats, without_Q: Ids | None = None) -> Nearest:
    """Return each person's nearest identity; ``without_Q`` is one that it must not be, by row."""
    identity_Q = np.zeros(len(person_QD), np.int64)
    cosine_Q = np.zeros(len(person_QD))
    for begin in range(0, len(person_QD), _CHUNK):
        end = min(begin + _CHUNK, len(person_QD))
        cosine_BC = person_QD[begin:end] @ centre_CD.T
        if without_Q is not None:
            cosine_BC[np.arange(end - begin), without_Q[begin:end]] = -np.inf
        identity_Q[begin:end] = cosine_BC.argmax(axis=1)
        cosine_Q[begin:end] = cosine_BC.max(axis=1)
    return Nearest(identity_Q, cosine_Q)


def level(embedding_ND: Numbers, label_N: Ids, centre_CD: Floats, sizes_Q: Ids, false_alarm: float) -> Level:
    """Return the lowest threshold that flags at most a share ``false_alarm`` of people who are nobody else's.

    Args:
        embedding_ND: of training images.
        label_N: row of ``centre_CD`` of each.
        centre_CD: mean embedding of each identity.
        sizes_Q: numbers of images of the test set's people; as many are set aside here.
        false_alarm: a share in (0, 1).

    Raises:
        ValueError: too few identities have a second image to resolve the rate.
    """
    if not 0 < false_alarm < 1:
        raise InputError(f"a false alarm rate is a share in (0, 1), got {false_alarm}")
    asked, own = _set_aside(embedding_ND, label_N, sizes_Q)
    needed = math.ceil(1 / false_alarm)
    if len(asked) < needed:
        raise InputError(
            f"a false alarm rate of {false_alarm:g} needs {needed} training identities of two images or more, got "
            f"{len(asked)}: raise it"
        )
    person_QD, rest_QD = (np.stack(one) for one in zip(*asked.values(), strict=True))
    others = nearest(person_QD, centre_CD, own)
    allowed = math.floor(false_alarm * len(asked) + 1e-9)
    threshold = float(np.nextafter(np.sort(others.cosine_Q)[::-1][allowed], np.inf))
    own_cosine_Q = np.einsum("qd,qd->q", person_QD, rest_QD)
    found_Q = (own_cosine_Q >= threshold) & (own_cosine_Q > others.cosine_Q)
    return Level(
        threshold, float(np.mean(others.cosine_Q >= threshold)), float(np.mean(found_Q)), len(asked)
    )


def _set_aside(
    embedding_ND: Numbers, label_N: Ids, sizes_Q: Ids
) -> tuple[dict[int, tuple[Floats, Floats]], Ids]:
    """Return for each identity of two images or more the mean of some of them, and that of the rest."""
    random = np.random.default_rng(0)
    order_N = np.argsort(label_N, kind="stable")
    labels, begins = np.unique(label_N[order_N], return_index=True)
    asked: dict[int, tuple[Floats, Floats]] = {}
    for label, rows_M in zip(labels.tolist(), np.split(order_N, begins[1:]), strict=True):
        if rows_M.size < 2:
            continue
        aside = min(int(random.choice(sizes_Q)), rows_M.size - 1)
        mixed_M = random.permutation(rows_M)
        halves = (unit(embedding_ND[part].sum(axis=0, keepdims=True))[0] for part in (mixed_M[:aside], mixed_M[aside:]))
        asked[label] = (next(halves), next(halves))
    return asked, np.array(list(asked), np.int64)


def twins(centre_CD: Floats, at_least: float, limit: int = 200) -> list[tuple[int, int, float]]:
    """Return pairs of identities whose means are as alike as ``at_least``, the most alike first."""
    found: list[tuple[int, int, float]] = []
    for begin in range(0, len(centre_CD), _CHUNK):
        cosine_BC = centre_CD[begin : begin + _CHUNK] @ centre_CD.T
        first_P, second_P = np.nonzero(cosine_BC >= at_least)
        later_P = second_P > first_P + begin
        found += [
            (int(first) + begin, int(second), float(cosine_BC[first, second]))
            for first, second in zip(first_P[later_P], second_P[later_P], strict=True)
        ]
    return sorted(found, key=lambda one: -one[2])[:limit]
