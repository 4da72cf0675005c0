"""docs/params.md and docs/commands.md: every field of the models and every option of the program, and nothing else."""

from __future__ import annotations

import subprocess
import sys

import pytest

from stages.config import training
from stages.runtime import plugins
from tests.docs import reference
from tests.support import ROOT


@pytest.mark.parametrize("path", reference.PAGES)
def test_the_page_is_what_the_code_says(path: str):
    said = (ROOT / path).read_text(encoding="utf-8")
    assert said == reference.PAGES[path](), "run `python -m tests.docs.reference`"


def test_every_field_of_a_run_is_on_the_page():
    page = (ROOT / "docs/params.md").read_text(encoding="utf-8")
    for name in training.Config.model_fields:
        assert f"| `{name}` |" in page
    for name in training.Schedule.model_fields:
        assert f"| `schedule.{name}` |" in page
    for kind, field in reference.KINDS.items():
        assert [name for name in plugins.names(kind) if f"### {field}: {name}\n" not in page] == []


def test_the_commands_are_those_of_the_program():
    done = subprocess.run([sys.executable, "-m", "pipeline.cli", "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = [line.split()[0] for line in done.stdout.partition("Commands:")[2].splitlines() if line.startswith("  ") and line[2] != " "]
    assert len(listed) > 20
    page = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
    assert [name for name in listed if f"## facet {name}\n" not in page] == []


def test_defaults_are_written_as_yaml_has_them():
    fields = training.Schedule.model_fields
    assert reference.default_text(fields["milestones"]) == "`[]`"
    assert reference.default_text(fields["warmup_epochs"]) == "`0`"
    assert reference.default_text(fields["clip_norm"]) == "`null`"
    assert reference.default_text(fields["epochs"]) == "**required**"
    assert reference.default_text(training.Compute.model_fields["deterministic"]) == "`false`"
    assert reference.default_text(training.Compute.model_fields["chunks"]) == "`1`"
