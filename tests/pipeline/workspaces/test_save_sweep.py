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


def test_a_save_that_was_killed_between_its_two_files_goes_on(root: Path):
    save_sweep.save(root, sweep(), "margins")
    saved = {path: path.read_text() for path in (root / "params.yaml", root / "tables/margins.yaml")}
    # the table is moved first: until params.yaml names it, nothing reads it
    (root / "params.yaml").write_text(WRITTEN)
    assert save_sweep.save(root, sweep(), "margins") == 1
    assert {path: path.read_text() for path in saved} == saved


def test_a_table_of_the_same_name_with_other_rows_is_refused(root: Path):
    (root / "tables/margins.yaml").write_text("title: mine\n")
    with pytest.raises(ValueError, match="already exists"):
        save_sweep.save(root, sweep(), "margins")
    assert (root / "params.yaml").read_text() == WRITTEN
