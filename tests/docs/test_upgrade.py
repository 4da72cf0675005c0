"""docs/keeping-up.md: a project with a run, a head and a table of its own takes an update of ours by `git merge`."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.support import ROOT, Project

# real DVC trains a run of its own before the update: what is stale afterwards is the question
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

RAN = re.compile(r"^Running stage '(?:[^':]*:)?([^']+)'", re.MULTILINE)
FILE = re.compile(r"^File `([^`]+)`:\n\n```\w+\n(.*?)^```", re.MULTILINE | re.DOTALL)
ADDED = ("add-run", "li_arcface", "--like", "arcface", "--set", "head.name=li_arcface", "--set", "head.margin=0.45",
         "--table", "mine", "--label", "Li-ArcFace", "--yes")


def own_head() -> str:
    """CONTRIBUTING.md's example of a head."""
    return dict(FILE.findall((ROOT / "CONTRIBUTING.md").read_text()))["stages/heads/li_arcface.py"]


@pytest.fixture(scope="module")
def merged(copy_reproduced: Callable[[], Project], tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, dict[str, str]]:
    """A project with work of its own after an update, and the hashes of its run's outputs before."""
    project = copy_reproduced()
    upstream = Project(tmp_path_factory.mktemp("upstream") / "facet")
    project.run("git", "clone", "-q", str(project.path), str(upstream.path))
    project.run("git", "switch", "-qc", "ours-and-mine")
    (project.path / "stages/heads/li_arcface.py").write_text(own_head())
    project.run("facet", *ADDED)
    project.run("dvc", "repro", "tabulate@mine", timeout=480)
    project.run("git", "add", "-A")
    project.run("git", "commit", "-qm", "a head, a run and a table of mine")
    release(upstream)
    before = outputs(project)
    project.run("git", "remote", "add", "upstream", str(upstream.path))
    project.run("git", "fetch", "-q", "upstream")
    project.run("git", "merge", "--no-edit", f"upstream/{upstream.run('git', 'branch', '--show-current').strip()}")
    # before a test runs anything in it
    assert project.run("git", "status", "--porcelain", "--untracked-files=no") == ""
    return project, before


def release(upstream: Project) -> None:
    """What an update may hold: a head of ours, another run in params.yaml, changed tools, a changed stage program."""
    (upstream.path / "stages/heads/theirs.py").write_text((upstream.path / "stages/heads/softmax.py").read_text().replace('"softmax"', '"theirs"'))
    params = upstream.path / "params.yaml"
    params.write_text("# of the new release\n" + params.read_text())
    for name in ("stages/tools/doctor.py", "stages/tabulate.py", "pipeline/cli/show.py"):
        path = upstream.path / name
        path.write_text(path.read_text() + "\n# changed in the new release\n")
    upstream.run("git", "add", "-A")
    upstream.run("git", "commit", "-qm", "a new release")


def outputs(project: Project) -> dict[str, str]:
    """The hash of every output of the run's own stages and of the others' trainings."""
    return {
        out["path"]: out["md5"]
        for lock in (project.path / "graph").glob("*/dvc.lock")
        for name, entry in yaml.safe_load(lock.read_text())["stages"].items()
        for out in entry["outs"]
        if name.startswith("train_backbone") or name.endswith("@li_arcface")
    }


def test_the_merge_leaves_no_conflict_and_both_sides_work(merged: tuple[Project, dict[str, str]]):
    project, _ = merged
    params = (project.path / "params.yaml").read_text()
    assert params.startswith("# of the new release\n")
    assert yaml.safe_load(params)["runs"]["li_arcface"]["head"]["name"] == "li_arcface"
    heads = project.run("facet", "list", "heads")
    assert "\nli_arcface\n" in heads
    assert "theirs\n" in heads


def test_no_training_is_stale_and_results_stay(merged: tuple[Project, dict[str, str]]):
    project, before = merged
    assert any(path.startswith("runs/li_arcface") for path in before)
    ran = {name.partition("@")[0] for name in RAN.findall(project.run("dvc", "repro", timeout=480))}
    # parameters are read again, as a head is new; tables are made again, as their program changed
    assert ran <= {"resolve", "tabulate", "report", "track"}
    assert {"resolve", "tabulate"} <= ran
    assert outputs(project) == before


def test_the_table_of_ones_own_is_printed_after_it(merged: tuple[Project, dict[str, str]]):
    assert "Li-ArcFace" in merged[0].run("facet", "table", "mine")


def test_the_page_names_files_that_are_there():
    page = (ROOT / "docs/keeping-up.md").read_text()
    for name in re.findall(r"`((?:stages|pipeline|graph|profiles|tables|ablations|docs|tests)/[\w./-]*)`", page):
        if not re.search("[A-Z]|mine", name):
            assert (ROOT / name).exists(), name
    assert Path(__file__).relative_to(ROOT).as_posix() in page
