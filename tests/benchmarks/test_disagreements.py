"""Pairs of rows that stand otherwise than published: told apart from those that nobody can tell apart."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from benchmarks import disagreements


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Four rows of two seeds in one column whose deviation over seeds is sqrt(.5) percent, and what was published."""
    rows = {"best": (99.8, 80.0), "second": (99.7, 85.0), "third": (97.0, 84.0), "last": (90.0, 70.0)}
    for name, (_, measured) in rows.items():
        for seed, shift in enumerate((-0.5, 0.5)):
            folder = tmp_path / "results" / (name if not seed else f"{name}_s{seed}")
            folder.mkdir(parents=True)
            (folder / "hq.json").write_text(json.dumps({"lfw": (measured + shift) / 100, "weights_sha256": "0"}))
    lines = [
        {"table": "t", "row": name, "label": name, "column": "LFW", "metric": "hq.lfw", "unit": "percent",
         "higher_is_better": "true", "measured": measured, "std": 0.5**0.5, "seeds": 2, "published": published}
        for name, (published, measured) in rows.items()
    ]  # fmt: skip
    (tmp_path / "results/report").mkdir()
    pd.DataFrame(lines).to_csv(tmp_path / "results/report/index.csv", index=False)
    return tmp_path


def test_each_pair_is_put_where_it_belongs(workspace: Path) -> None:
    found = {(pair.better, pair.worse): pair for pair in disagreements.pairs(workspace)}
    assert {names: pair.kind for names, pair in found.items()} == {
        ("best", "second"): "published close",  # .1 of 6000 pairs at 99.75 % are 6 pairs
        ("best", "third"): "reversed",
        ("best", "last"): "as published",
        ("second", "third"): "measured close",
        ("second", "last"): "as published",
        ("third", "last"): "as published",
    }
    reversed_pair = found["best", "third"]
    assert not reversed_pair.agrees
    assert (reversed_pair.published, reversed_pair.measured) == (pytest.approx(2.8), pytest.approx(-4.0))
    # two means of two seeds each: sqrt(.5) * sqrt(1/2 + 1/2)
    assert reversed_pair.measured_error == pytest.approx(0.5**0.5)
    assert found["second", "third"].agrees


def test_a_metric_of_one_seed_tells_nothing_apart(workspace: Path) -> None:
    for path in (workspace / "results").glob("*_s1/hq.json"):
        path.unlink()
    cells = pd.read_csv(workspace / "results/report/index.csv")
    cells["std"] = float("nan")
    cells.to_csv(workspace / "results/report/index.csv", index=False)
    kinds = {pair.kind for pair in disagreements.pairs(workspace)}
    assert kinds == {"published close", "measured close"}
