"""The worst pairs of a set: which they are, how many errors there are, and that the faces shown are theirs."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from stages.core.metrics.features import Features
from stages.core.metrics.processing import Failure, Processed
from stages.run_page import worst_pairs
from stages.suites._pairs import Pairs

# pair k is images 2k and 2k + 1; the third image of the last pair failed
COSINE_P = np.array([0.9, 0.2, 0.5, 0.7, -0.1, -1.0])
SAME_P = np.array([True, True, True, False, False, False])


def grey(row: int) -> np.ndarray | Failure:
    return Failure("image 11", "cut short") if row == 11 else np.full((112, 112, 3), 20 * row, np.uint8)


@pytest.fixture
def pairs() -> Pairs:
    feature_ND = np.zeros((12, 2), np.float32)
    feature_ND[:, 0] = np.arange(12)
    processed_N = np.arange(12) != 11
    first_P = 2 * np.arange(6)
    processed = Processed(Features(feature_ND), processed_N, (Failure("image 11", "cut short"),))
    return Pairs(processed, SAME_P, COSINE_P, np.float32(2 - 2 * COSINE_P), first_P, first_P + 1, grey)


def test_errors_are_counted_at_the_threshold_and_a_match_reaches_it(pairs: Pairs):
    found = worst_pairs.worst(pairs, 0.5)
    assert (found.num_genuine, found.num_false_non_matches) == (3, 1)
    # the pair with the image that failed is none of them
    assert (found.num_impostors, found.num_false_matches) == (2, 1)
    assert worst_pairs.worst(pairs, 0.51).num_false_non_matches == 2


def test_the_worst_come_first_and_say_whether_they_are_errors(pairs: Pairs):
    found = worst_pairs.worst(pairs, 0.5, count=2)
    assert [(pair.cosine, pair.wrong) for pair in found.impostors] == [(0.7, True), (-0.1, False)]
    assert [(pair.cosine, pair.wrong) for pair in found.genuine] == [(0.2, True), (0.5, False)]
    assert found.genuine[0].names == ("2", "3")
    assert found.genuine[0].norms == (2.0, 3.0)


def test_the_faces_are_those_of_the_pair(pairs: Pairs):
    shown = worst_pairs.worst(pairs, 0.5, count=1).impostors[0]
    for jpeg, row in zip(shown.images, (6, 7), strict=True):
        image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert abs(float(image.mean()) - 20 * row) < 2


def test_the_threshold_is_the_folds_mean_as_a_cosine():
    assert worst_pairs.threshold({"threshold_per_fold": [1.0, 1.5]}) == pytest.approx(1 - 1.25 / 2)
