"""FMR and FNMR by known quality: counted again by hand, at one threshold, and only where they are asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages import evaluate
from stages.config import evaluation
from stages.core.metrics import features, rates
from stages.protocols import verification
from tests.stages import small_sets
from tests.stages.small_suites import images_of

PAIRS = 400


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("levels")
    small_sets.write_bin(path / "lfw.bin", num_pairs=PAIRS)
    quality_N = np.random.default_rng(0).uniform(0.2, 1, 2 * PAIRS)
    quality_N[3] = 1.0
    table = {
        "set": "lfw", "image": [str(i) for i in range(2 * PAIRS)], "identity": np.arange(2 * PAIRS) // 4,
        "quality": quality_N,
    }  # fmt: skip
    pd.DataFrame(table).to_parquet(path / "truth.parquet")
    return path


def measured(folder: Path, **switches: object):
    return evaluate.measure("hq", folder, evaluation.Hq(sets=("lfw",), **switches), small_sets.embed)


def test_rates_by_level_are_those_counted_by_hand_at_the_threshold_of_all_pairs(folder: Path) -> None:
    found = measured(folder, quality_levels=True, group_fmr=0.02)
    feature = small_sets.embed(images_of(folder / "lfw.bin"))
    cosine_P = verification.cosines(
        features.normalise(features.fuse(feature, "pre_norm_sum")), np.ones(2 * PAIRS, np.bool_)
    )
    same_P = np.arange(PAIRS) % 2 == 0
    match_P = cosine_P >= rates.threshold_at_fmr(cosine_P[~same_P], 0.02)
    quality_N = pd.read_parquet(folder / "truth.parquet")["quality"].to_numpy()
    worse_P = np.minimum(quality_N[0::2], quality_N[1::2])
    keys = [key for key in found.metrics if "quality" in key]
    assert len(keys) == 8
    for low in (2, 4, 6, 8):
        level_P = (worse_P >= low / 10) & (worse_P < (low + 2) / 10 if low < 8 else worse_P <= 1)
        name = f"quality_0_{low}_to_{'1_0' if low == 8 else f'0_{low + 2}'}"
        assert found.metrics[f"lfw_fnmr_{name}"] == pytest.approx(1 - match_P[level_P & same_P].mean())
        assert found.metrics[f"lfw_fmr_{name}"] == pytest.approx(match_P[level_P & ~same_P].mean())
    groups = found.details["sets"]["lfw"]["groups"]
    assert groups["bands_resampled_over"] == "truth.parquet"
    assert [line["group"] for line in groups["rates"]][-1] == "all pairs"
    assert sum(line["genuine"] for line in groups["rates"][:-1]) == PAIRS / 2


def test_levels_come_only_where_they_are_asked_for_and_known(folder: Path, tmp_path: Path) -> None:
    assert not [key for key in measured(folder).metrics if "quality" in key]
    (tmp_path / "lfw.bin").write_bytes((folder / "lfw.bin").read_bytes())
    assert "groups" not in measured(tmp_path, quality_levels=True).details["sets"]["lfw"]
