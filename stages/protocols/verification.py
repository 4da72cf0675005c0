"""Verification over ten folds on LFW-style pair lists, as in AdaFace's evaluate_utils.py (evaluate) at c60eaa78.

Shapes: P pairs, D embedding dimensions, F folds, K thresholds. Images 2p and 2p+1 make pair p.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import InputError
from stages.core.metrics.scores import NO_MATCH

VERSION = "2"  # beside the grid, the exact threshold
NUM_FOLDS = 10

Floats = NDArray[np.float64]
Embeddings = NDArray[np.float32]
Mask = NDArray[np.bool_]
Distances = NDArray[np.float32]
Rows = NDArray[np.integer[Any]]

# squared L2 distances of unit embeddings lie in [0, 4]
THRESHOLD_K: Floats = np.arange(0, 4, 0.01)
_FARTHEST = 4.0
_CHUNK = 512


@dataclass(frozen=True)
class Folds:
    """Accuracies as fractions, thresholds as squared L2 distances, rates averaged over the folds."""

    accuracy_F: Floats
    threshold_F: Floats
    tpr_K: Floats
    fpr_K: Floats

    @property
    def accuracy(self) -> float:
        """Mean accuracy over the folds: the number in published tables."""
        return float(self.accuracy_F.mean())


def evaluate(embedding_ND: Embeddings, is_same_P: Mask, processed_N: Mask | None = None) -> Folds:
    """Return accuracy and threshold of each fold, and rates over the threshold grid.

    A pair is taken as same if its squared distance is below the threshold. Folds are runs of pairs in list
    order; each takes the first threshold of best accuracy on the other nine. All counts come from one
    histogram.

    Args:
        embedding_ND: unit length, (2P, D).
        is_same_P: genuine pairs.
        processed_N: False for images that could not be processed: their pairs are as far apart as can be, so
            that a genuine one is an error and an impostor one is not.

    Raises:
        ValueError: fewer pairs than folds, images that do not fit the pairs, embeddings that are not finite.
    """
    return of_distances(_distances(embedding_ND, is_same_P.size, processed_N), is_same_P)


def evaluate_exact(embedding_ND: Embeddings, is_same_P: Mask, processed_N: Mask | None = None) -> Folds:
    """Return accuracy and threshold of each fold, with the best of all thresholds instead of the grid's.

    A fold's threshold is the midpoint between the two neighbouring distances, on the other nine folds, where
    accuracy there is best; of several, the lowest. The grid's step of 0.01 then plays no part. Arguments and
    errors are those of ``evaluate``; the rates are still given over the grid.
    """
    return of_distances_exact(_distances(embedding_ND, is_same_P.size, processed_N), is_same_P)


def of_distances(distance_P: Distances, is_same_P: Mask, fold_P: Rows | None = None) -> Folds:
    """Return what ``evaluate`` does, from the squared distances of the pairs.

    Args:
        distance_P: squared L2 distances of unit embeddings.
        is_same_P: genuine pairs.
        fold_P: of each pair, from 0; None: ten runs of pairs in list order.

    Raises:
        ValueError: fewer pairs than folds, fewer than two folds, distances that are not finite.
    """
    fold_P = folds_of(distance_P, fold_P)
    # a pair is taken as same at every threshold from this one on
    bin_P = np.searchsorted(THRESHOLD_K, distance_P, side="right")
    return _from_counts(_count(fold_P, bin_P, is_same_P), _count(fold_P, bin_P, ~is_same_P))


def of_distances_exact(distance_P: Distances, is_same_P: Mask, fold_P: Rows | None = None) -> Folds:
    """Return what ``evaluate_exact`` does, from the squared distances of the pairs; arguments as ``of_distances``."""
    on_grid = of_distances(distance_P, is_same_P, fold_P)
    fold_P = folds_of(distance_P, fold_P)
    num_folds = on_grid.accuracy_F.size
    order_P = np.argsort(distance_P, kind="stable")
    accuracy_F, threshold_F = np.empty(num_folds), np.empty(num_folds)
    for fold in range(num_folds):
        trained_P = order_P[fold_P[order_P] != fold]
        threshold_F[fold] = _best_threshold(distance_P[trained_P].astype(np.float64), is_same_P[trained_P])
        tested_P = fold_P == fold
        accuracy_F[fold] = np.mean((distance_P[tested_P] < threshold_F[fold]) == is_same_P[tested_P])
    return Folds(accuracy_F, threshold_F, on_grid.tpr_K, on_grid.fpr_K)


def _best_threshold(rising_P: Floats, is_same_P: Mask) -> float:
    """Return the lowest threshold of best accuracy, between rising distances."""
    # right_K[k]: pairs told right when the k nearest are taken as same
    right_K = np.concatenate([[0], np.cumsum(np.where(is_same_P, 1, -1))])
    between_K = np.concatenate([[True], rising_P[1:] != rising_P[:-1], [True]])
    best = int(np.argmax(np.where(between_K, right_K, np.iinfo(np.int64).min)))
    if best == 0:
        return float(rising_P[0])
    above = rising_P[best] if best < rising_P.size else _FARTHEST
    return float((rising_P[best - 1] + above) / 2) if above > rising_P[best - 1] else float(np.nextafter(above, 5))


def distances(
    embedding_ND: Embeddings, first_P: Rows, second_P: Rows, processed_N: Mask | None = None
) -> Distances:
    """Return the squared distance of each pair of rows; the largest there is where an image could not be processed.

    Args:
        embedding_ND: unit length.
        first_P: row of the first image of each pair.
        second_P: row of the second.
        processed_N: False for images that could not be processed.
    """
    distance_P = np.empty(first_P.size, dtype=embedding_ND.dtype)
    for begin in range(0, first_P.size, _CHUNK):
        part = slice(begin, begin + _CHUNK)
        difference_CD = np.subtract(embedding_ND[first_P[part]], embedding_ND[second_P[part]])
        np.sum(np.square(difference_CD, out=difference_CD), 1, out=distance_P[part])
    if processed_N is not None:
        distance_P[~(processed_N[first_P] & processed_N[second_P])] = _FARTHEST
    return distance_P


def _distances(embedding_ND: Embeddings, num_pairs: int, processed_N: Mask | None) -> Distances:
    if num_pairs < NUM_FOLDS or len(embedding_ND) != 2 * num_pairs:
        raise InputError(
            f"{NUM_FOLDS} folds need at least as many pairs and two images each, got {num_pairs} pairs and "
            f"{len(embedding_ND)} images"
        )
    distance_P = _squared_distances(embedding_ND)
    if processed_N is not None:
        distance_P[~(processed_N[0::2] & processed_N[1::2])] = _FARTHEST
    return distance_P


def folds_of(distance_P: Distances, fold_P: Rows | None) -> Rows:
    """Return the fold of each pair: as given, or ten runs of pairs in list order.

    Raises:
        ValueError: fewer pairs than folds, fewer than two folds, distances that are not finite.
    """
    if not np.isfinite(distance_P).all():
        raise InputError("embeddings hold NaN or infinity: the backbone's weights are damaged or its training diverged")
    if fold_P is None:
        if distance_P.size < NUM_FOLDS:
            raise InputError(f"{NUM_FOLDS} folds need at least as many pairs, got {distance_P.size}")
        return np.repeat(np.arange(NUM_FOLDS), _fold_sizes(distance_P.size))
    if np.unique(fold_P).size < 2:
        raise InputError("accuracy needs at least two folds: a threshold is chosen on the others; got one")
    return fold_P


def cosines(embedding_ND: Embeddings, processed_N: Mask | None = None) -> Floats:
    """Return the cosine of each pair, in [-1, 1]; -1 where an image could not be processed."""
    pair_P2D = embedding_ND.reshape(-1, 2, embedding_ND.shape[1]).astype(np.float64)
    cosine_P: Floats = np.einsum("pd,pd->p", pair_P2D[:, 0], pair_P2D[:, 1])
    if processed_N is not None:
        cosine_P[~(processed_N[0::2] & processed_N[1::2])] = NO_MATCH
    return cosine_P


def _squared_distances(embedding_ND: Embeddings) -> NDArray[np.float32]:
    # the published order of operations, so that a distance on the grid falls on the same side; in chunks that
    # fit the cache
    left_PD, right_PD = embedding_ND[0::2], embedding_ND[1::2]
    distance_P = np.empty(len(left_PD), dtype=embedding_ND.dtype)
    for begin in range(0, len(left_PD), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        difference_CD = np.subtract(left_PD[part], right_PD[part])
        np.sum(np.square(difference_CD, out=difference_CD), 1, out=distance_P[part])
    return distance_P


def _fold_sizes(num_pairs: int) -> NDArray[np.int64]:
    sizes_F = np.full(NUM_FOLDS, num_pairs // NUM_FOLDS)
    sizes_F[: num_pairs % NUM_FOLDS] += 1
    return sizes_F


def _count(fold_P: Rows, bin_P: NDArray[np.int64], chosen_P: Mask) -> NDArray[np.int64]:
    """Return (F, K+1): the chosen pairs of a fold accepted at each threshold; the last column is all."""
    width, num_folds = THRESHOLD_K.size + 1, int(fold_P.max()) + 1
    counts = np.bincount((fold_P * width + bin_P)[chosen_P], minlength=num_folds * width)
    return np.cumsum(counts.reshape(num_folds, width), axis=1)


def _from_counts(genuine_FK: NDArray[np.int64], impostor_FK: NDArray[np.int64]) -> Folds:
    tp_FK, fp_FK = genuine_FK[:, :-1], impostor_FK[:, :-1]
    num_genuine_F1, num_impostor_F1 = genuine_FK[:, -1:], impostor_FK[:, -1:]
    right_FK = tp_FK + (num_impostor_F1 - fp_FK)
    num_F1 = num_genuine_F1 + num_impostor_F1
    train_accuracy_FK = (right_FK.sum(axis=0) - right_FK) / (num_F1.sum() - num_F1)
    best_F = np.argmax(train_accuracy_FK, axis=1)
    accuracy_F = right_FK[np.arange(best_F.size), best_F] / num_F1[:, 0]
    # a fold without genuine (or impostor) pairs counts with rate 0, as published
    tpr_FK = tp_FK / np.maximum(num_genuine_F1, 1)
    fpr_FK = fp_FK / np.maximum(num_impostor_F1, 1)
    return Folds(accuracy_F, THRESHOLD_K[best_F], np.mean(tpr_FK, 0), np.mean(fpr_FK, 0))
