"""A sweep that is saved: params.yaml gains its runs and rows and loses nothing, and both files are written or neither."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.workspaces import save_sweep
from pipeline.workspaces.sweep_grid import Variant
from pipeline.workspaces.sweeps import Sweep

WRITTEN = """\
runs:
  a: {dataset: demo,
      head: {margin: 0.50}}    # as published

rows: {}
tables: {}
"""
COLUMN = {"name": "LFW", "metric": "hq.lfw"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "tables").mkdir()
    (tmp_path / "params.yaml").write_text(WRITTEN)
    return tmp_path


def sweep() -> Sweep:
    trained = {"a_m": {"dataset": "demo", "head": {"margin": 0.3}}}
    return Sweep("margins", [Variant("a", {"head.margin": 0.3}, {"a_m": 0}, trained)], [COLUMN])


def test_comments_and_lines_of_others_stay(root: Path):
    assert save_sweep.save(root, sweep(), "margins") == 1
    text = (root / "params.yaml").read_text()
    assert text.startswith(WRITTEN[: WRITTEN.index("\nrows")] + "  a_m:\n    dataset: demo\n    head: {margin: 0.3}\n\nrows:\n")
    assert (root / "tables/margins.yaml").is_file()


def test_params_yaml_that_cannot_be_written_leaves_no_table(root: Path):
    (root / "params.yaml.partial").mkdir()
    with pytest.raises(OSError):
        save_sweep.save(root, sweep(), "margins")
    assert (root / "params.yaml").read_text() == WRITTEN
    assert list((root / "tables").iterdir()) == []
