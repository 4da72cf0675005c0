"""IJB 1:N: AdaFace's own numbers, its threshold rule, and what becomes of what cannot be searched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.protocols.ijb_1ton import FPIRS, RANKS, identify

GOLDEN = Path(__file__).parents[2] / "golden"


def test_ranks_and_tpir_are_those_of_the_published_script():
    golden = np.load(GOLDEN / "search.npz")
    found = identify(golden["n_probe"], golden["n_subject"], golden["n_gallery"], np.arange(120))
    assert [found.rate(rank) for rank in RANKS] == golden["n_top"].tolist()
    for fpir, (far, recall, threshold) in zip(FPIRS, golden["n_read"], strict=True):
        assert far == fpir
        assert found.tpir[fpir] == pytest.approx(recall, abs=1e-10)
        assert found.threshold[fpir] == pytest.approx(threshold, abs=1e-10)


@given(st.integers(0, 10_000))
def test_blocks_give_what_the_whole_matrix_gives_even_with_ties(seed):
    rng = np.random.default_rng(seed)
    # whole numbers of length 2, halved: products are exact, ties are many
    gallery_GD, probe_PD = (rng.integers(-1, 2, (size, 4)) / 2.0 for size in (23, 40))
    subject_P = rng.integers(0, 23, 40)
    found = identify(probe_PD, subject_P, gallery_GD, np.arange(23))
    score_PG = probe_PD @ gallery_GD.T
    mate_P = score_PG[np.arange(40), subject_P]
    impostor_PG = score_PG.copy()
    impostor_PG[np.arange(40), subject_P] = -2
    assert found.rank_P.tolist() == (1 + (impostor_PG >= mate_P[:, None]).sum(axis=1)).tolist()
    falling = np.sort(impostor_PG.ravel())[::-1]
    for fpir, num in ((0.01, 1), (0.1, 4)):
        assert found.threshold[fpir] == falling[num - 1]
        assert found.tpir[fpir] == np.mean(mate_P > falling[num - 1])


def test_more_cells_than_one_tile_are_all_seen():
    rng = np.random.default_rng(0)
    gallery_GD = rng.normal(size=(2500, 8))
    gallery_GD /= np.linalg.norm(gallery_GD, axis=1, keepdims=True)
    subject_P = rng.integers(0, 2500, 600)
    probe_PD = gallery_GD[subject_P] + 0.2 * rng.normal(size=(600, 8))
    probe_PD /= np.linalg.norm(probe_PD, axis=1, keepdims=True)
    ticks: list[int] = []
    found = identify(probe_PD, subject_P, gallery_GD, np.arange(2500), tick=ticks.append)
    score_PG = probe_PD @ gallery_GD.T
    mate_P = score_PG[np.arange(600), subject_P]
    assert found.rank_P.tolist() == (score_PG >= mate_P[:, None] - 1e-13).sum(axis=1).tolist()
    score_PG[np.arange(600), subject_P] = -2
    assert found.threshold[0.1] == pytest.approx(np.sort(score_PG.ravel())[-60], abs=1e-14)
    assert sum(ticks) == 600


def test_the_order_of_the_gallery_and_of_the_probes_is_irrelevant():
    golden = np.load(GOLDEN / "search.npz")
    rng = np.random.default_rng(1)
    probes, gallery = rng.permutation(400), rng.permutation(120)
    plain = identify(golden["n_probe"], golden["n_subject"], golden["n_gallery"], np.arange(120))
    mixed = identify(golden["n_probe"][probes], golden["n_subject"][probes], golden["n_gallery"][gallery], gallery)
    assert mixed.rank_P.tolist() == plain.rank_P[probes].tolist()
    assert (mixed.tpir, mixed.threshold) == (plain.tpir, plain.threshold)


def test_a_probe_without_a_mate_is_counted_and_left_out():
    found = identify(np.eye(3), np.array([0, 1, 9]), np.eye(3)[:2], np.array([0, 1]))
    assert found.num_without_mate == 1
    assert found.rank_P.tolist() == [1, 1]


def test_templates_without_a_processed_image_are_never_found_and_set_no_threshold():
    eye = np.eye(4)
    found = identify(
        eye, np.arange(4), eye, np.arange(4),
        np.array([False, True, True, True]), np.array([True, False, True, True]),
    )  # fmt: skip
    assert found.rank_P.tolist() == [0, 0, 1, 1]
    assert found.tpir[0.1] == 0.5
    assert found.threshold[0.1] == 0


def test_a_mate_exactly_at_the_threshold_is_not_above_it():
    same = np.tile([[1.0, 0.0]], (10, 1))
    found = identify(same, np.arange(10), same, np.arange(10))
    assert found.tpir == {0.01: 0.0, 0.1: 0.0}
    assert found.rank_P.tolist() == [10] * 10


def test_a_subject_with_two_gallery_templates_is_refused():
    with pytest.raises(ValueError, match="one gallery template, 5 has 2"):
        identify(np.eye(2), np.array([5, 5]), np.eye(2), np.array([5, 5]))


def test_without_any_mate_there_is_no_number():
    with pytest.raises(ValueError, match="none of 2 probes has a mate"):
        identify(np.eye(2), np.array([7, 8]), np.eye(2), np.array([5, 6]))
