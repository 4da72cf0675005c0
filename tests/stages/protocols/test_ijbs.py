"""IJB-S: the published searches on golden data, templates by hand, and what becomes of empty ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stages.protocols import ijbs

GOLDEN = Path(__file__).parents[2] / "golden"


def golden_templates():
    golden = np.load(GOLDEN / "search.npz")
    embedding_TD = np.concatenate([golden["s_probe"], golden["s_gallery"]])
    subject_T = np.concatenate([golden["s_subject"], np.arange(50)])
    return golden, ijbs.Templates(embedding_TD, subject_T, np.ones(550, bool))


def test_ranks_and_open_set_are_those_of_the_published_script():
    golden, templates = golden_templates()
    found = ijbs.search(templates, np.arange(500), np.arange(500, 525), np.arange(525, 550))
    np.testing.assert_allclose(found.closed.rates((1, 5, 10)), golden["s_closed"], atol=1e-7)
    np.testing.assert_allclose([found.tpir(0.01), found.tpir(0.1)], golden["s_open"], atol=1e-7)
    assert list(ijbs.summary(found)) == ["rank1", "rank5", "rank10", "tpir_fpir1e-02", "tpir_fpir1e-01"]
    assert found.closed.num_without_mate == int((golden["s_subject"] >= 50).sum())


def test_a_template_is_the_mean_of_its_faces_weighed_by_their_length():
    feature_ND = np.array([[3.0, 0.0], [0.0, 1.0], [0.0, 2.0]], np.float32)
    # face 0 stands in two templates: a video's and that of all views
    templates = ijbs.pool(feature_ND, np.array([0, 1, 0, 1, 2]), np.array([0, 0, 1, 1, 1]), np.array([7, 7, 8]))
    np.testing.assert_allclose(templates.embedding_TD[0], np.array([3, 1]) / np.sqrt(10))
    np.testing.assert_allclose(templates.embedding_TD[1], np.array([3, 3]) / np.sqrt(18))
    assert templates.embedding_TD[2].tolist() == [0, 0]
    assert templates.filled_T.tolist() == [True, True, False]


def test_a_face_that_failed_is_left_out_of_the_mean():
    feature_ND = np.array([[3.0, 0.0], [0.0, 0.0]], np.float32)
    templates = ijbs.pool(
        feature_ND, np.array([0, 1, 1]), np.array([0, 0, 1]), np.array([7, 8]), np.array([True, False])
    )
    assert templates.embedding_TD[0].tolist() == [1, 0]
    assert templates.filled_T.tolist() == [True, False]


def test_an_empty_probe_is_never_found_and_raises_no_alarm():
    embedding_TD = np.concatenate([np.zeros((1, 4)), np.eye(4)[1:3], -np.eye(4)[3:], np.eye(4)])
    subject_T = np.array([0, 1, 2, 9, 0, 1, 2, 3])
    filled_T = np.array([False, *[True] * 7])
    found = ijbs.search(
        ijbs.Templates(embedding_TD, subject_T, filled_T), np.arange(4), np.arange(4, 6), np.arange(6, 8)
    )
    assert found.closed.rank_P.tolist() == [0, 1, 1]
    assert found.closed.num_without_mate == 1
    assert found.tpir(0.1) == pytest.approx((0.5 + 1) / 2)


def test_a_gallery_that_holds_a_subject_twice_is_refused():
    templates = ijbs.Templates(np.eye(3), np.array([1, 1, 1]), np.ones(3, bool))
    with pytest.raises(ValueError, match="1 is there 2 times"):
        ijbs.search(templates, np.array([0]), np.array([1]), np.array([2]))


def test_without_unmated_probes_an_open_set_has_a_reason_and_no_number():
    templates = ijbs.Templates(np.concatenate([np.eye(2)] * 2), np.array([1, 1, 1, 2]), np.ones(4, bool))
    found = ijbs.search(templates, np.array([0, 1]), np.array([2]), np.array([3]))
    assert found.tpir(0.1) is None
    assert found.reasons[0] == "open set needs probes with and without a mate, got 2 and 0"
    assert "rank1" in ijbs.summary(found)
    assert "tpir_fpir1e-01" not in ijbs.summary(found)
