"""Templates pooled with quality scores: a score that knows the bad images helps, one that is constant is no weight."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stages import evaluate
from stages.config import evaluation
from stages.core.metrics.features import Features
from stages.datasets import ijbs
from stages.suites import _pooled
from tests.stages import small_sets

EACH = 3  # images of a template; all but the first show somebody else


def embed(images) -> Features:
    """Return what small_sets' network does, but for the bad images something that says nothing of the person."""
    found = small_sets.embed(images).feature_ND.copy()
    bad_N = np.arange(len(found)) % EACH != 0
    found[bad_N] = np.random.default_rng(0).normal(size=(int(bad_N.sum()), found.shape[1]))
    return Features(found, found)


def knows(features: Features):
    return np.where(np.arange(len(features.feature_ND)) % EACH, -5, 3).astype(np.float32)


def knows_not(features: Features):
    return -knows(features)


def constant(features: Features):
    return np.full(len(features.feature_ND), -2, np.float32)


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    folder: Path = tmp_path_factory.mktemp("pooled")
    small_sets.write_ijb(folder / "ijb", num_templates=40)
    switches = evaluation.Fiqa(sets=("IJBB",), fmr=(0.5,), pool=True)
    scores = {"knows": knows, "knows_not": knows_not, "constant": constant}
    return evaluate.measure("fiqa", folder, switches, embed, scores).metrics


def test_a_score_that_knows_the_bad_images_pools_better_than_equal_weights(metrics: dict[str, float]) -> None:
    tar = {way: metrics[f"IJBB_pooled_by_{way}_tar_at_far_1e-01"] for way in ("knows", "unit", "knows_not")}
    assert tar["knows"] > tar["unit"] > tar["knows_not"]


def test_a_constant_score_weighs_all_images_alike(metrics: dict[str, float]) -> None:
    for rate in ("1e-01", "1e-02"):
        assert metrics[f"IJBB_pooled_by_constant_tar_at_far_{rate}"] == metrics[f"IJBB_pooled_by_unit_tar_at_far_{rate}"]


@pytest.fixture(scope="module")
def surveillance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("surveillance")
    small_sets.write_ijbs(folder / "ijbs", num_subjects=12)
    return folder


def test_ijbs_is_searched_with_templates_of_each_way(surveillance: Path) -> None:
    """The second frame of each video shows nobody."""
    bad_N = np.array([name.endswith("_2.jpg") for name in ijbs.load(surveillance / "ijbs").names])

    def with_bad_frames(images) -> Features:
        found = small_sets.embed(images).feature_ND.copy()
        found[bad_N] = 3 * np.random.default_rng(1).normal(size=(int(bad_N.sum()), found.shape[1]))
        return Features(found, found)

    scores = {"knows": lambda features: np.where(bad_N, -5, 3), "constant": lambda features: np.full(bad_N.size, -2)}
    switches = evaluation.Fiqa(sets=("ijbs",), pool=True)
    measured = evaluate.measure("fiqa", surveillance, switches, with_bad_frames, scores)
    key = "ijbs_pooled_by_{}_surveillance_to_booking_rank1"
    rank1 = {way: measured.metrics[key.format(way)] for way in ("knows", "unit", "norm", "constant")}
    assert rank1["knows"] > rank1["unit"] == rank1["constant"]
    # as suite lq pools, where the norm is a weight
    lq = evaluate.measure("lq", surveillance, evaluation.Lq(sets=("ijbs",)), with_bad_frames)
    for name, value in lq.metrics.items():
        assert measured.metrics[name.replace("ijbs_", "ijbs_pooled_by_norm_")] == value
    probes = measured.details["pooled"]["ijbs"]["pooled_by"]["knows"]["surveillance_to_booking"]["probes"]
    assert probes == lq.details["sets"]["ijbs"]["surveillance_to_booking"]["probes"]
    # nobody has known the quality; the scale needs no label
    assert "truth.parquet" in measured.details["pooled"]["ijbs"]["methods"]["knows"]["spearman"]["reason"]
    assert measured.documents["scales"]["knows"]["ijbs"]["people"] == 12


def test_ijbs_has_no_pairs_so_it_is_refused_unless_it_is_pooled() -> None:
    with pytest.raises(ValueError, match="ijbs has searches and no pairs: suite fiqa only pools its templates"):
        evaluation.Fiqa(sets=("ijbs",))


def test_weights_depend_on_the_order_of_scores_alone() -> None:
    score_N = np.random.default_rng(0).normal(size=50)
    assert np.array_equal(_pooled.weights(score_N), _pooled.weights(np.exp(score_N)))
    assert _pooled.weights(score_N).min() > 0


def test_nothing_is_pooled_unless_asked(tmp_path: Path) -> None:
    small_sets.write_ijb(tmp_path / "ijb")
    measured = evaluate.measure("fiqa", tmp_path, evaluation.Fiqa(sets=("IJBB",), fmr=(0.5,)), embed)
    assert not [key for key in measured.metrics if "pooled" in key]
    assert "pooled_by" not in measured.details["sets"]["IJBB"]
