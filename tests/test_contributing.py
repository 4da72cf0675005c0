"""CONTRIBUTING.md, done as it says."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable

import pytest
import yaml

from tests.support import ROOT, Project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

RAN = re.compile(r"^Running stage '(?:[^':]*:)?([^']+)'", re.MULTILINE)
FILE = re.compile(r"^File `([^`]+)`:\n\n```\w+\n(.*?)^```", re.MULTILINE | re.DOTALL)
INSERTION = re.compile(r"^In `([^`]+)`, after `([^`]+)`:\n\n```\w+\n(.*?)^```", re.MULTILINE | re.DOTALL)
ADDITION = re.compile(r"^Add to `([^`]+)`:\n\n```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def extended(copy_reproduced: Callable[[], Project]) -> Project:
    """A reproduced project after everything CONTRIBUTING.md tells one to write."""
    guide = (ROOT / "CONTRIBUTING.md").read_text()
    project = copy_reproduced()
    for name, text in FILE.findall(guide):
        assert not (project.path / name).exists(), f"{name} exists already: the example is no longer new"
        (project.path / name).parent.mkdir(exist_ok=True)
        (project.path / name).write_text(text)
    for name, text in ADDITION.findall(guide):
        project.edit(name, yaml.safe_load(text))
    for name, line, text in INSERTION.findall(guide):
        before = (project.path / name).read_text()
        assert before.count(f"\n{line}\n") == 1, f"{name} should hold the line {line!r} once"
        (project.path / name).write_text(before.replace(f"\n{line}\n", f"\n{line}\n{text}"))
    return project


def test_the_examples_pass_the_checks_that_ours_pass(extended: Project):
    names = [name for name, _ in FILE.findall((ROOT / "CONTRIBUTING.md").read_text()) if name.endswith(".py")]
    assert names
    config = str(ROOT / "pyproject.toml")
    extended.run("ruff", "check", "--config", config, *names)
    if (ROOT / ".mypy_cache").is_dir():
        # what mypy knows of files with the same content: from nothing it takes a minute
        shutil.copytree(ROOT / ".mypy_cache", extended.path / ".mypy_cache")
    extended.run("mypy", "--config-file", config, *names)
    extended.run("python", "-m", "doctest", "stages/protocols/equal_error.py", PYTHONPATH=str(extended.path))


def test_a_new_head_and_a_new_table_are_trained_measured_and_tabulated(extended: Project):
    ran = RAN.findall(extended.run("dvc", "repro", "tabulate@linear"))
    assert {name.partition("@")[2] for name in ran if name.startswith("train")} == {"li_arcface"}, "nothing else reruns"
    text = (extended.path / "results/tables/linear/report/table.md").read_text()
    assert "Li-ArcFace" in text
    assert "TinyFace Rank-1" in text


def test_a_new_protocol_is_in_the_results(extended: Project):
    ran = RAN.findall(extended.run("dvc", "repro", "graph/evaluate_hq/dvc.yaml:evaluate_hq@arcface"))
    assert not [name for name in ran if name.startswith("train")], "measured again, without training any"
    details = json.loads((extended.path / "results/arcface/hq/details.json").read_text())
    assert 0 <= details["sets"]["lfw"]["equal_error_rate"] <= 1


def test_a_new_data_set_is_drawn_and_unpacked(extended: Project):
    extended.run("dvc", "repro", "unpack@noisy")
    assert (extended.path / "data/unpacked/noisy/manifest.parquet").is_file()
