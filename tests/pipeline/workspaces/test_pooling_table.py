"""The table of ways to pool: its rows are one training, and what its columns ask is measured at both of its scales."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from pipeline.workspaces import ablations
from pipeline.workspaces.ablations import Ablations
from stages.config import params
from stages.suites import _pooled
from tests.support import ROOT


@pytest.mark.parametrize(("scale", "lacks"), [("pooling", ()), ("pooling_faces", ("ijbs",))])
def test_rows_are_ways_of_one_run_and_columns_of_sets_that_it_is_measured_on(
    scale: str, lacks: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "shared/faces").mkdir(parents=True)
    root = tmp_path / "project"
    for name in ("ablations", "profiles", "tables"):
        shutil.copytree(ROOT / name, root / name)
    shutil.copy(ROOT / "params.yaml", root)
    assert ablations.tables(root, scale) == ["pooling"]
    assert "pooling" not in ablations.tables(root, "demo")  # whose runs are the papers'
    made = ablations.params(root, Ablations(scale, {"pooling": (0, 1, 2)}))
    (root / "params.yaml").write_text(yaml.safe_dump(made))
    loaded = params.load(root)
    assert set(loaded.runs) == {"pooled", "pooled_s1", "pooled_s2"}
    run, table = loaded.runs["pooled"], loaded.tables["pooling"]
    measured = {_pooled.UNIT, _pooled.NORM, "feature_norm", run.quality.name, *run.evaluate.fiqa.methods}
    assert {row.quality for row in table.rows.values()} == measured
    assert run.evaluate.fiqa.pool
    for column in table.columns:
        name = column.metric.removeprefix("fiqa.").partition("_pooled_by_")[0]
        assert (name in run.evaluate.fiqa.sets) != (name in lacks), column.metric
