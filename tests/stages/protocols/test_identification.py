"""Closed-set identification: AdaFace's DIR_FAR on golden data, a plain sort elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.protocols import identification
from stages.protocols.identification import NOBODY, closed_set

GOLDEN = Path(__file__).parents[2] / "golden"


def unit(feature_ND):
    return feature_ND / np.linalg.norm(feature_ND, axis=1, keepdims=True)


def plainly(probe_PD, probe_label_P, gallery_GD, gallery_label_G):
    """Rank by sorting; ties put the non-mates first."""
    ranks = []
    for probe_D, label in zip(probe_PD, probe_label_P, strict=True):
        mate_G = gallery_label_G == label
        if label == NOBODY or not mate_G.any():
            continue
        score_G = gallery_GD @ probe_D
        order_G = np.lexsort((mate_G, -score_G))
        ranks.append(int(np.argmax(mate_G[order_G])) + 1)
    return ranks


def test_the_rates_are_those_of_dir_far():
    golden = np.load(GOLDEN / "identification.npz")
    found = closed_set(
        golden["probe_features"], golden["probe_labels"], golden["gallery_features"], golden["gallery_labels"]
    )
    np.testing.assert_allclose(found.rates(golden["ranks"].tolist()), golden["closed_set_rank_rate"], rtol=1e-6)
    assert (found.rank_P.size, found.num_without_mate) == (150, 50)


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 80))
def test_blocks_give_the_ranks_of_a_plain_sort_even_with_ties(seed, num_probes, num_gallery):
    rng = np.random.default_rng(seed)
    # whole numbers: products are exact, ties are many
    probe_PD = rng.integers(-2, 3, (num_probes, 3)).astype(np.float32)
    gallery_GD = rng.integers(-2, 3, (num_gallery, 3)).astype(np.float32)
    probe_label_P = rng.integers(0, 6, num_probes)
    gallery_label_G = np.where(rng.random(num_gallery) < 0.4, NOBODY, rng.integers(0, 6, num_gallery))
    expected = plainly(probe_PD, probe_label_P, gallery_GD, gallery_label_G)
    if not expected:
        with pytest.raises(ValueError, match="has a mate"):
            closed_set(probe_PD, probe_label_P, gallery_GD, gallery_label_G)
        return
    found = closed_set(probe_PD, probe_label_P, gallery_GD, gallery_label_G)
    assert found.rank_P.tolist() == expected
    assert found.num_without_mate == num_probes - len(expected)


@given(st.integers(0, 1000))
def test_rates_rise_with_rank_and_reach_one(seed):
    rng = np.random.default_rng(seed)
    found = closed_set(
        unit(rng.normal(size=(20, 4))), rng.integers(0, 5, 20), unit(rng.normal(size=(30, 4))), np.arange(30) % 5
    )
    rates = found.rates(range(1, 31))
    assert rates == sorted(rates)
    assert rates[-1] == 1


def test_more_probes_than_one_block_are_all_searched():
    rng = np.random.default_rng(0)
    gallery_GD = unit(rng.normal(size=(300, 16)))
    probe_label_P = rng.integers(0, 300, 1000)
    ticks: list[int] = []
    found = closed_set(gallery_GD[probe_label_P], probe_label_P, gallery_GD, np.arange(300), tick=ticks.append)
    assert found.rate(1) == 1
    assert sum(ticks) == 1000


def test_embeddings_collapsed_to_one_point_find_nobody():
    same = np.tile([[1.0, 0.0]], (10, 1))
    found = closed_set(same, np.arange(10), same, np.arange(10))
    assert found.rank_P.tolist() == [10] * 10


def test_a_second_mate_does_not_stand_before_the_best():
    gallery_GD = np.array([[1.0, 0.0], [0.9, 0.1], [0.5, 0.5]])
    found = closed_set(np.array([[1.0, 0.0]]), np.array([7]), gallery_GD, np.array([7, 7, NOBODY]))
    assert found.rank_P.tolist() == [1]


def test_probes_without_a_mate_are_counted_and_left_out():
    eye = np.eye(3)
    found = closed_set(eye, np.array([1, 2, 9]), eye, np.array([1, 2, NOBODY]))
    assert found.num_without_mate == 1
    assert found.rate(1) == 1


def test_a_probe_that_failed_and_one_whose_mates_failed_count_as_never_found():
    eye = np.eye(4)
    found = closed_set(
        eye, np.array([1, 2, 3, 4]), eye, np.array([1, 2, 3, 4]),
        np.array([False, True, True, True]), np.array([True, False, True, True]),
    )  # fmt: skip
    assert found.rank_P.tolist() == [0, 0, 1, 1]
    assert found.rate(4) == 0.5


def test_a_failed_distractor_stands_before_nobody():
    gallery_GD = np.array([[1.0, 0.0], [0.0, 0.0]])
    found = closed_set(
        np.array([[-1.0, 0.0]]), np.array([1]), gallery_GD, np.array([1, NOBODY]), None, np.array([True, False])
    )
    assert found.rank_P.tolist() == [1]


def test_labels_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="every image needs a label, got 2 probes with 1"):
        closed_set(np.eye(2), np.array([1]), np.eye(2), np.array([1, 2]))


def test_a_label_of_nobody_among_the_probes_has_no_mate():
    found = identification.closed_set(np.eye(2), np.array([NOBODY, 1]), np.eye(2), np.array([NOBODY, 1]))
    assert found.num_without_mate == 1


def test_the_open_set_rates_are_those_of_dir_far():
    golden = np.load(GOLDEN / "identification.npz")
    arrays = [golden[f"{side}_{what}"] for side in ("probe", "gallery") for what in ("features", "labels")]
    for column, rank in enumerate(golden["ranks"].tolist()):
        found = identification.open_set(*arrays, golden["open_set_fpir"].tolist(), rank=rank, rounding="nearest")
        np.testing.assert_allclose(list(found.tpir.values()), golden["open_set_tpir"][:, column], rtol=1e-6)
        assert (found.num_mated, found.num_non_mated) == (150, 50)
        # 1 in 100 of 50 rounds to 0 (half to even): read just above the highest false alarm
        assert list(found.unresolved) == [0.01]
        assert found.fpir[0.01] == 0


def test_too_few_non_mated_probes_are_said_to_be():
    rng = np.random.default_rng(0)
    found = identification.open_set(
        unit(rng.normal(size=(20, 4))), np.arange(20), unit(rng.normal(size=(10, 4))), np.arange(10), [0.01, 0.1]
    )
    assert "FPIR 0.01 needs 100 probes without a mate, got 10" in found.unresolved[0.01]
    assert found.fpir[0.1] == pytest.approx(0.1)


def test_an_open_set_needs_probes_of_both_kinds():
    with pytest.raises(ValueError, match="with and without a mate, got 2 and 0"):
        identification.open_set(np.eye(2), np.array([1, 2]), np.eye(2), np.array([1, 2]), [0.1])


def test_ranks_do_not_depend_on_rounding_of_the_matrix_product():
    # scores that float32 cannot tell apart, but float64 can, one part in 1e9 either way
    gallery_GD = np.array([[1.0, 0.0], [1.0, 1e-9], [1.0, -1e-9]])
    probe_PD = np.array([[np.cos(0.3), np.sin(0.3)]])
    assert closed_set(probe_PD, np.array([0]), gallery_GD, np.array([0, NOBODY, NOBODY])).rank_P.tolist() == [2]
    assert closed_set(probe_PD, np.array([0]), gallery_GD, np.array([NOBODY, 0, NOBODY])).rank_P.tolist() == [1]
    assert closed_set(probe_PD, np.array([0]), gallery_GD, np.array([NOBODY, NOBODY, 0])).rank_P.tolist() == [3]
