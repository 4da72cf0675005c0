"""An evaluation depends on the test sets that it names, and on no other file of a person's folder: through real DVC."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from stages.datasets import insightface_rec
from tests.own_data import flatten, put
from tests.stages import small_sets
from tests.support import Project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def measured(make_project: Callable[[], Project], tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Path]:
    """A project whose run on a person's folder was trained and measured on three of its sets, and that folder."""
    home = tmp_path_factory.mktemp("measured")
    folder = home / "faces"
    images = [(small_sets.encoded(identity, seed), identity) for identity in range(8) for seed in range(4)]
    insightface_rec.write(folder / "train", images, 8)
    (folder / "eval").mkdir()
    for name in ("lfw", "African", "cfp_fp"):
        small_sets.write_bin(folder / f"eval/{name}.bin")
    made = make_project()
    project = Project(Path(shutil.copytree(made.path, home / "project", symlinks=True)))
    benchmarks = {"hq": {"sets": ["lfw", "African"]}, "fiqa": {"sets": ["cfp_fp"]}}
    put(project, datasets={"mine": {"root": "../faces", "benchmarks": benchmarks}},
        synthetic={}, rows={}, tables={},
        runs={"a": {"dataset": "mine", "head": {"name": "arcface", "margin": 0.5}, "quality": {"name": "feature_norm"}}})
    project.run("dvc", "repro", *MEASURED)
    project.run("git", "add", "-A")
    project.run("git", "commit", "-qm", "measured")
    return project, folder


MEASURED = ("graph/evaluate_hq/dvc.yaml:evaluate_hq@a", "graph/evaluate_fiqa/dvc.yaml:evaluate_fiqa@a")


@pytest.fixture
def of_two_sets(measured: tuple[Project, Path], tmp_path: Path) -> tuple[Project, Path]:
    """A copy of it."""
    project, folder = measured
    shutil.copytree(folder, tmp_path / "faces", copy_function=shutil.copy2)
    return Project(Path(shutil.copytree(project.path, tmp_path / "project", symlinks=True))), tmp_path / "faces"


def stale(project: Project) -> set[str]:
    printed = project.run("python", "-m", "pipeline.cli", "status", "evaluate_hq@a", "evaluate_fiqa@a", "evaluate_lq@a")
    return set(re.findall(r"^(\S+) +stale", printed, re.MULTILINE)) - {"evaluate_lq@a"}


def test_an_evaluation_is_stale_only_when_a_set_that_it_names_changes(of_two_sets: tuple[Project, Path]):
    project, folder = of_two_sets
    assert stale(project) == set()
    small_sets.write_bin(folder / "eval/agedb_30.bin")
    small_sets.write_tinyface(folder / "eval/tinyface")
    assert stale(project) == set()
    assert "up to date" in project.run("dvc", "repro", *MEASURED)
    before, numbers = (folder / "eval/cfp_fp.bin").read_bytes(), (project.path / "results/a/fiqa.json").read_text()
    small_sets.write_bin(folder / "eval/cfp_fp.bin", num_pairs=60)
    assert stale(project) == {"evaluate_fiqa@a"}
    printed = project.run("dvc", "repro", *MEASURED)
    assert re.findall(r"Running stage '(\S+)'", printed) == [MEASURED[1]]
    assert (project.path / "results/a/fiqa.json").read_text() != numbers
    (folder / "eval/cfp_fp.bin").write_bytes(before)
    assert stale(project) == {"evaluate_fiqa@a"}
    assert "Running stage" not in project.run("dvc", "repro", *MEASURED), "A, B, A: the results of A are stored"
    assert (project.path / "results/a/fiqa.json").read_text() == numbers
    small_sets.write_bin(folder / "eval/lfw.bin", num_pairs=60)
    printed = project.run("dvc", "repro", "--force", "-s", MEASURED[0], check=False)
    assert "lfw: not what it was when it was listed" in printed, "a plain stage refuses what was not listed"


def test_a_set_in_a_flat_folder_changes_nothing_but_what_names_it(of_two_sets: tuple[Project, Path]):
    project, folder = of_two_sets
    flatten(folder)
    assert stale(project) == set(), "the same files in the other layout are the same"
    for name in ("agedb_30", "Asian"):
        small_sets.write_bin(folder / f"{name}.bin")
    assert stale(project) == set(), "neither the training nor an evaluation knows of them"
    small_sets.write_bin(folder / "African.bin", num_pairs=60)
    assert stale(project) == {"evaluate_hq@a"}
    printed = project.run("dvc", "repro", *MEASURED)
    assert re.findall(r"Running stage '(\S+)'", printed) == [MEASURED[0]]
    details = json.loads((project.path / "results/a/hq/details.json").read_text())
    assert details["sets"]["African"]["pairs"] == 60


def test_a_clone_elsewhere_with_the_same_files_has_nothing_to_run(of_two_sets: tuple[Project, Path], tmp_path: Path):
    project, folder = of_two_sets
    project.run("dvc", "remote", "add", "-d", "store", str(tmp_path / "store"))
    project.run("dvc", "push", "--run-cache")
    project.run("git", "commit", "-qam", "remote")
    project.run("git", "clone", "-q", str(project.path), str(tmp_path / "elsewhere/project"))
    clone = Project(tmp_path / "elsewhere/project")
    shutil.copytree(project.path / ".dvc/plots", clone.path / ".dvc/plots", dirs_exist_ok=True)
    shutil.move(folder, tmp_path / "elsewhere/faces")
    clone.run("dvc", "pull", check=False)  # of other suites there is nothing
    printed = clone.run("dvc", "repro", *MEASURED)
    assert set(re.findall(r"Running stage '(\S+)'", printed)) == {"resolve"}, "it lists the folder"
    assert stale(clone) == set()
