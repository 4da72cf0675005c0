"""Edits of params.yaml: what did not change stays as it was written, byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.runtime import yaml_edit, yaml_text
from stages.runtime.yaml_edit import YamlEdit
from tests.support import ROOT

WRITTEN = """\
# mine
profile: demo          # how large

datasets:              # folders
  demo: {}             # synthetic
  # a comment of its own
  long: {a: [1, 2,
             3], b: 'x'}

# runs follow
runs:
  arcface:
    dataset: demo
    head: {name: arcface, margin: 0.50}   # radians

rows: {}               # none yet
tables:
"""


@pytest.fixture
def edit(tmp_path: Path) -> YamlEdit:
    (tmp_path / "params.yaml").write_text(WRITTEN)
    return YamlEdit(tmp_path / "params.yaml")


def test_without_a_change_every_byte_stays(edit: YamlEdit):
    assert edit.text() == WRITTEN
    assert edit.diff() == ""


@pytest.mark.parametrize("name", ["params.yaml", "tables/heads.yaml", "profiles/demo.yaml", "ablations/runs.yaml"])
def test_the_files_of_this_project_stay(name: str):
    assert YamlEdit(ROOT / name).text() == (ROOT / name).read_text()


def test_an_entry_is_added_at_the_end_of_its_section_and_nothing_else_changes(edit: YamlEdit):
    edit.section("datasets")["mine"] = yaml_edit.block({"root": "/data/faces", "benchmarks": {"hq": {"sets": ["lfw"]}}})
    edit.section("rows")["t-a"] = yaml_edit.block({"table": "t"})
    edit.section("tables")["t"] = {}
    added = [line[1:] for line in edit.diff().splitlines() if line.startswith("+") and not line.startswith("+++")]
    removed = [line[1:] for line in edit.diff().splitlines() if line.startswith("-") and not line.startswith("---")]
    assert added == [
        "  mine:", "    root: /data/faces", "    benchmarks: {hq: {sets: [lfw]}}",
        "rows:                  # none yet", "  t-a:", "    table: t", "  t: {}",
    ]  # fmt: skip
    assert removed == ["rows: {}               # none yet"]
    assert "3], b: 'x'}\n  mine:\n" in edit.text()
    assert "[lfw]}}\n\n# runs follow\nruns:" in edit.text()


def test_a_value_changes_in_its_place(edit: YamlEdit):
    edit.tree["runs"]["arcface"]["head"]["margin"] = 0.3
    assert edit.text() == WRITTEN.replace("0.50}  ", "0.3}   ")  # the comment keeps its column


def test_a_section_that_is_missing_is_added(edit: YamlEdit):
    edit.section("recognition")["norm"] = yaml_edit.block({"folder": "models/x"})
    assert edit.text().startswith(WRITTEN)
    assert yaml_text.parse(edit.text())["recognition"] == {"norm": {"folder": "models/x"}}


def test_several_files_are_written_or_none(tmp_path: Path):
    (tmp_path / "a.yaml").write_text("old")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        yaml_edit.write_all({tmp_path / "a.yaml": "new", tmp_path / "folder" / "b.yaml" / "c": "", tmp_path / "folder" / "b.yaml": ""})
    assert (tmp_path / "a.yaml").read_text() == "old"
    yaml_edit.write_all({tmp_path / "a.yaml": "new", tmp_path / "b.yaml": "é"})
    assert [(tmp_path / name).read_text() for name in ("a.yaml", "b.yaml")] == ["new", "é"]


@pytest.mark.parametrize(("text", "problem"), [("a: [", "is not YAML"), ("- a\n", "should hold a mapping, got CommentedSeq")])
def test_what_cannot_be_edited_is_said(tmp_path: Path, text: str, problem: str):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ValueError, match=problem):
        YamlEdit(tmp_path / "x.yaml")
