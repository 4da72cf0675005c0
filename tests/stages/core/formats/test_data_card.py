from __future__ import annotations

import numpy as np
import pytest

from stages.core.formats.data_card import describe_images, quantiles, ranges_that_disagree


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def test_quantiles_are_values_that_occur():
    assert quantiles(ints(5, 1, 1, 1)) == {
        "mean": 2.0, "min": 1, "p5": 1, "p25": 1, "median": 1, "p75": 1, "p95": 5, "max": 5,
    }  # fmt: skip


def test_nothing_has_no_quantiles():
    assert quantiles(ints()) is None


def test_sizes_are_counted_width_first():
    card = describe_images(ints(0, 0, 4), ints(10, 20, 30), ints(7, 7, 9), ints(8, 8, 9))
    assert card["sizes"] == {"7x8": 2, "9x9": 1}
    assert (card["images"], card["identities"], card["image_bytes"]["total"]) == (3, 2, 60)


@pytest.mark.parametrize(
    ("begins", "ends", "disagree"),
    [
        ((1, 3, 6), (3, 6, 7), 0),
        ((1, 3, 6), (4, 6, 7), 1),  # the first reaches into the second identity
        ((1, 2, 6), (3, 6, 7), 1),
        ((1, 1, 1), (7, 7, 7), 3),
        ((1, 3, 7), (3, 6, 8), 1),  # there is no image 7
        ((1, 3, 6), (1, 6, 7), 1),  # empty
        ((1, 5, 6), (3, 4, 7), 1),  # ends before it begins
        ((1, 3, 6), (3, 5, 7), 0),  # one image is in no range: not for the ranges to say
    ],
)
def test_ranges_agree_if_they_hold_one_identity_each(
    begins: tuple[int, ...], ends: tuple[int, ...], disagree: int
):
    keys, labels = ints(1, 2, 3, 4, 5, 6), ints(0, 0, 1, 1, 1, 2)
    assert ranges_that_disagree(ints(*begins), ints(*ends), keys, labels) == disagree


def test_ranges_pass_over_images_that_were_left_out():
    assert ranges_that_disagree(ints(1, 3), ints(3, 6), ints(2, 3, 5), ints(0, 1, 1)) == 0


def test_no_images_agree_with_no_range():
    assert ranges_that_disagree(ints(1), ints(3), ints(), ints()) == 1
    assert ranges_that_disagree(ints(), ints(), ints(1), ints(0)) == 0
