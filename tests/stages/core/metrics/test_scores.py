"""Scores of pairs by blocks: pair by pair is the reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stages.core.metrics import rates
from stages.core.metrics.scores import NO_MATCH, pair_scores, sieve_pairs


def some_templates(seed, num_templates=600, dim=8):
    embedding_TD = np.random.default_rng(seed).normal(size=(num_templates, dim))
    return embedding_TD / np.linalg.norm(embedding_TD, axis=1, keepdims=True)


@given(st.integers(0, 100), st.integers(1, 3000), st.booleans())
def test_blocks_give_what_pair_by_pair_gives(seed, num_pairs, in_order):
    embedding_TD = some_templates(seed)
    rng = np.random.default_rng(seed)
    first_P, second_P = rng.integers(0, 600, (2, num_pairs))
    first_P = np.sort(first_P) if in_order else first_P
    expected_P = np.sum(embedding_TD[first_P] * embedding_TD[second_P], axis=1)
    np.testing.assert_allclose(pair_scores(embedding_TD, first_P, second_P), expected_P, atol=1e-12)


@pytest.mark.parametrize("num_pairs", [40, 200_000])
def test_a_score_does_not_depend_on_where_its_pair_stands(num_pairs):
    embedding_TD = some_templates(3)
    rng = np.random.default_rng(4)
    first_P, second_P = rng.integers(0, 600, (2, num_pairs))
    order_P = rng.permutation(num_pairs)
    score_P = pair_scores(embedding_TD, first_P, second_P)
    shuffled_P = pair_scores(embedding_TD, first_P[order_P], second_P[order_P])
    np.testing.assert_array_equal(score_P[order_P], shuffled_P)


def test_a_template_that_was_not_processed_matches_nobody():
    embedding_TD = np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    score_P = pair_scores(
        embedding_TD, np.array([0, 0, 1]), np.array([1, 2, 1]), processed_T=np.array([True, False, True])
    )
    assert score_P.tolist() == [NO_MATCH, 1.0, NO_MATCH]


def test_every_pair_is_ticked_once():
    ticks: list[int] = []
    first_P = np.random.default_rng(0).integers(0, 600, 5000)
    pair_scores(some_templates(0), first_P, first_P[::-1].copy(), tick=ticks.append)
    assert sum(ticks) == 5000


def test_no_pairs_give_no_scores():
    none = np.zeros(0, dtype=np.int64)
    assert pair_scores(some_templates(0), none, none).size == 0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.booleans(), st.floats(0.05, 1.5), st.booleans())
# the template that stands several times has failed in one of its places
@example(seed=1202, short=False, noise=0.5, failed=True)
def test_rates_of_sieved_scores_are_those_of_exact_ones(seed, short, noise, failed):
    # templates that stand twice make ties; little noise leaves no genuine score near most targets
    rng = np.random.default_rng(seed)
    subject_T = rng.integers(0, 12, 90)
    embedding_TD = rng.normal(size=(12, 16))[subject_T] + noise * rng.normal(size=(90, 16))
    embedding_TD /= np.linalg.norm(embedding_TD, axis=1, keepdims=True)
    twin_T = rng.integers(0, 90, 6)
    embedding_TD[twin_T], subject_T[twin_T] = embedding_TD[[3]], subject_T[3]
    processed_T = rng.random(90) > 0.02 if failed else None
    first_P, second_P = np.triu_indices(90, 1)
    is_same_P = subject_T[first_P] == subject_T[second_P]
    sieved = sieve_pairs(embedding_TD, first_P, second_P, processed_T)
    score_P = sieved.exact(np.arange(first_P.size))
    np.testing.assert_allclose(sieved.score_P, score_P, atol=sieved.error)
    targets = [0.001, 0.003, 0.01, 0.05, 0.1, 0.5, 1.0]
    exact = rates.read_rates(score_P[is_same_P], score_P[~is_same_P], targets)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rates, "_SHORT", 4096 if short else 0)
        assert rates.read_rates(*sieved.sides(is_same_P), targets) == exact
        assert rates.roc(*sieved.sides(is_same_P)) == rates.roc(score_P[is_same_P], score_P[~is_same_P])
