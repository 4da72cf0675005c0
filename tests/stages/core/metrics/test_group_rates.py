"""Error rates by group: against plain counting, and bands that are those of people, not of pairs."""

from __future__ import annotations

import numpy as np
import pytest

from stages.core.metrics.group_rates import by_group


def test_rates_are_those_of_plain_counting():
    random = np.random.default_rng(0)
    num_pairs = 500
    person_P2 = random.integers(0, 40, (num_pairs, 2))
    person_P2[::2, 1] = person_P2[::2, 0]
    is_same_P = person_P2[:, 0] == person_P2[:, 1]
    group_P, score_P = random.integers(-1, 3, num_pairs), random.normal(size=num_pairs) + is_same_P
    found = by_group(score_P, is_same_P, group_P, 0.5, person_P2[:, 0], person_P2[:, 1])
    assert len(found) == 4
    for group, one in enumerate(found):
        mine_P = (group_P == group) if group < 3 else np.ones(num_pairs, bool)
        for rate, chosen_P, wrong_P in (
            (one.fnmr, mine_P & is_same_P, score_P < 0.5), (one.fmr, mine_P & ~is_same_P, score_P >= 0.5),
        ):  # fmt: skip
            assert rate.value == pytest.approx(wrong_P[chosen_P].mean())
            assert 0 <= rate.low < rate.value < rate.high <= 1
        assert (one.genuine, one.impostor) == ((mine_P & is_same_P).sum(), (mine_P & ~is_same_P).sum())


def test_many_pairs_of_few_people_have_the_band_of_few_people():
    # each person's pairs all match or all fail: 400 pairs say no more than 8 people
    person_P = np.repeat(np.arange(8), 50)
    wrong = np.where(person_P % 2, -1.0, 1.0)
    genuine, nobody = np.ones(400, bool), np.zeros(400, int)
    of_people = by_group(wrong, genuine, nobody, 0.0, person_P, person_P)[0].fnmr
    of_pairs = by_group(wrong, genuine, nobody, 0.0, np.arange(400), np.arange(400))[0].fnmr
    assert of_people.value == of_pairs.value == 0.5
    assert of_people.high - of_people.low > 4 * (of_pairs.high - of_pairs.low)


def test_no_error_is_no_proof_and_no_pair_is_no_rate():
    one, every = by_group(
        np.ones(10), np.ones(10, bool), np.zeros(10, int), 0.5, np.arange(10), np.arange(10)
    )
    assert (one.fnmr.value, one.fnmr.low) == (0, 0)
    assert one.fnmr.high == pytest.approx(1 - 0.025 ** (1 / 10))
    assert one.fmr is None
    assert every == one
