"""The stage `evaluate`, suite fiqa: quality methods, networks that judge them, and truth where it is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages import evaluate
from stages.config import evaluation
from stages.core.metrics.features import Features
from tests.stages import small_sets
from tests.stages.small_suites import SWITCHES, darkness, images_of, measure, write_sets


@pytest.fixture
def sets(tmp_path) -> Path:
    return write_sets(tmp_path)


def test_fiqa_gives_both_conventions_for_the_method_and_the_norm(sets):
    small_sets.write_bin(sets / "lfw.bin", num_pairs=200)
    measured = measure("fiqa", sets, scores={"darkness": darkness})
    assert set(measured.metrics) == {
        f"lfw_{method}_{area}_fmr1e-01" for method in ("darkness", "feature_norm") for area in ("edc_auc", "iso_pauc")
    }
    tree = measured.details["sets"]["lfw"]["methods"]["darkness"]
    assert tree["1e-03"]["edc_auc"] is None
    assert "needs 1000 impostor scores" in tree["1e-03"]["reason"]
    assert tree["spearman"]["rho"] is None
    assert "truth.parquet" in tree["spearman"]["reason"]
    # one in ten needs ten impostor pairs
    left = tree["1e-01"]["impostors_left"]
    last = max(step for step, num in enumerate(left) if num >= 10)
    assert tree["1e-01"]["fmr_resolved_until_discard"] == pytest.approx(0.05 * last)
    conventions = {(row[1], row[3]) for row in measured.curves["edc"].rows}
    assert len(conventions) == 4


def by_brightness(images):
    """Another network: it knows people by the brightness of three channels."""
    mean_N3 = np.array([image.mean(axis=(0, 1)) for image in images], np.float32)
    return Features(mean_N3 - 128, mean_N3 - 128)


def test_fiqa_judges_scores_by_other_networks_as_well(sets):
    small_sets.write_bin(sets / "lfw.bin", num_pairs=200)
    switches = evaluation.Fiqa(sets=("lfw",), fmr=(0.1, 0.001), recognition=("bright",))
    scores = {"darkness": darkness}
    alone = measure("fiqa", sets, scores=scores)
    crossed = measure("fiqa", sets, switches, scores=scores, others={"bright": by_brightness})
    assert {key: crossed.metrics[key] for key in alone.metrics} == alone.metrics
    assert crossed.curves["edc"].rows == alone.curves["edc"].rows
    added = set(crossed.metrics) - set(alone.metrics)
    assert added == {f"{key}_by_bright" for key in alone.metrics}
    # the same as if quality came with that network
    features = small_sets.embed(images_of(sets / "lfw.bin"))
    expected = evaluate.measure(
        "fiqa", sets, SWITCHES["fiqa"], by_brightness, {"darkness": lambda other: darkness(features)}
    )
    for area in ("edc_auc", "iso_pauc"):
        key = f"lfw_darkness_{area}_fmr1e-01"
        assert crossed.metrics[f"{key}_by_bright"] == expected.metrics[key]
    tree = crossed.details["sets"]["lfw"]["recognition"]["bright"]["methods"]["darkness"]
    assert "needs 1000 impostor scores" in tree["1e-03"]["reason"]
    assert {row[:3] for row in crossed.curves["edc_by"].rows} == {
        ("bright", "lfw", "darkness"), ("bright", "lfw", "feature_norm"),
    }  # fmt: skip


@pytest.mark.parametrize("named", [{"methods": ("sharpness",)}, {"recognition": ("bright",)}])
def test_fiqa_refuses_switches_that_name_what_nobody_gave(sets, named):
    with pytest.raises(ValueError, match=f"fiqa.{next(iter(named))} names"):
        measure("fiqa", sets, evaluation.Fiqa(sets=("lfw",), **named))


def test_a_feature_norm_on_another_scale_stands_in_the_place_of_the_plain_one(sets):
    small_sets.write_bin(sets / "lfw.bin", num_pairs=200)
    plain = measure("fiqa", sets)
    coarse = measure("fiqa", sets, scores={"feature_norm": lambda features: np.rint(features.feature_norm_N / 50)})
    assert set(coarse.metrics) == set(plain.metrics)
    assert coarse.metrics != plain.metrics


def test_an_area_over_steps_without_any_impostor_pair_has_no_number(sets):
    small_sets.write_bin(sets / "lfw.bin", num_pairs=20)
    measured = measure("fiqa", sets)
    assert set(measured.metrics) == {"lfw_feature_norm_iso_pauc_fmr1e-01"}
    tree = measured.details["sets"]["lfw"]["methods"]["feature_norm"]["1e-01"]
    assert tree["edc_auc"] is None
    assert "no genuine or no impostor pair is left" in tree["reason"]


def test_fiqa_correlates_with_the_known_quality_where_there_is_one(sets):
    norm_N = small_sets.embed(images_of(sets / "lfw.bin")).feature_norm_N
    quality_N = np.argsort(np.argsort(norm_N)) / norm_N.size
    table = {"set": "lfw", "image": [str(i) for i in range(80)], "identity": 0, "quality": quality_N}
    pd.DataFrame(table).to_parquet(sets / "truth.parquet")
    measured = measure(
        "fiqa", sets, scores={"constant": lambda features: np.ones(len(features.feature_ND), np.float32)}
    )
    assert measured.metrics["lfw_spearman_feature_norm"] == pytest.approx(1)
    assert "lfw_spearman_constant" not in measured.metrics
    assert "equal" in measured.details["sets"]["lfw"]["methods"]["constant"]["spearman"]["reason"]


def test_fiqa_takes_pair_lists_and_templates(sets):
    small_sets.write_pair_list(sets / "adience")
    small_sets.write_xqlfw(sets / "xqlfw")
    switches = evaluation.Fiqa(sets=("adience", "xqlfw", "IJBB"), fmr=(0.5,), fusion="concat")
    found = measure("fiqa", sets, switches, scores={"darkness": darkness})
    assert set(found.details["sets"]) == {"adience", "xqlfw", "IJBB"}
    assert "IJBB_darkness_iso_pauc_fmr5e-01" in found.metrics
    assert {row[0] for row in found.curves["edc"].rows} == {"adience", "xqlfw", "IJBB"}


def test_a_quality_method_that_gives_nonsense_is_named(sets):
    with pytest.raises(ValueError, match="quality method odd should give 80 finite scores"):
        measure("fiqa", sets, scores={"odd": lambda features: np.full(80, np.nan, np.float32)})
