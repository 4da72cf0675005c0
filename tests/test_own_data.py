"""A person's data set is read where it is: through real DVC nothing of it is written, moved or removed."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from stages.datasets import insightface_rec
from tests.own_data import flatten, put
from tests.stages import small_sets
from tests.support import ROOT, Project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

BOTH = "demo: it is under `synthetic` and datasets.demo.root is"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real faces' records and one set of theirs where they are, else a few that are made here."""
    folder = tmp_path_factory.mktemp("person") / "faces"
    real = ROOT.parent / "shared/faces"
    if real.is_dir():
        shutil.copytree(real / "train", folder / "train", copy_function=shutil.copyfile)
        (folder / "eval").mkdir()
        shutil.copyfile(real / "eval/lfw.bin", folder / "eval/lfw.bin")
    else:
        images = [(small_sets.encoded(identity, seed), identity) for identity in range(8) for seed in range(4)]
        insightface_rec.write(folder / "train", images, 8)
        (folder / "eval").mkdir()
        small_sets.write_bin(folder / "eval/lfw.bin")
    return folder


@pytest.fixture
def faces(small: Path, tmp_path: Path) -> Path:
    """A copy to work on."""
    return Path(shutil.copytree(small, tmp_path / "faces"))


@pytest.fixture(scope="module")
def drawn(make_project: Callable[[], Project]) -> Project:
    """A project whose synthetic set has been drawn and unpacked."""
    project = make_project()
    project.run("dvc", "repro", "unpack@demo")
    return project


@pytest.fixture
def project(drawn: Project, tmp_path: Path) -> Project:
    """A copy of it."""
    return Project(Path(shutil.copytree(drawn.path, tmp_path / "project", symlinks=True)))


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def synthetic(project: Project) -> object:
    return yaml.safe_load((project.path / "params.yaml").read_text())["synthetic"]


def refused(printed: str) -> str:
    assert BOTH in printed, printed
    assert "Traceback" not in printed
    return printed


def test_an_entry_that_is_both_is_refused_by_every_door_before_anything_runs(project: Project, faces: Path):
    before, made = contents(faces), contents(project.path / "data")
    shutil.copytree(ROOT / "ablations", project.path / "ablations")
    project.run("git", "commit", "-qam", "drawn", check=False)
    at_once = ("dvc", "exp", "run", "-S", f"+datasets.demo.root={faces}", "unpack@demo")
    printed = refused(project.run(*at_once, check=False))
    assert "synthesize" not in printed
    put(project, datasets={"demo": {"root": str(faces)}})
    for command in (("dvc", "repro", "unpack@demo"), ("dvc", "repro", "--force", "unpack@demo")):
        printed = refused(project.run(*command, check=False))
        assert "Running stage 'synthesize" not in printed
    for command in (
        ("run", "unpack@demo"), ("status",), ("doctor",), ("ablations", "qgface_ablation"),
        ("run", "arcface", "--set", "runs.arcface.head.margin=0.3,0.4"),
    ):  # fmt: skip
        refused(project.run("python", "-m", "pipeline.cli", *command, check=False))
    assert contents(faces) == before
    assert contents(project.path / "data") == made


def test_first_embedded_then_a_root_then_embedded_again(project: Project, faces: Path):
    before, section = contents(faces), synthetic(project)
    put(project, synthetic={}, datasets={"demo": {"root": str(faces)}})
    printed = project.run("dvc", "repro", "unpack@demo", check=False)
    assert "data/demo/train holds a data set of its own" in printed
    shutil.rmtree(project.path / "data/demo")
    project.run("dvc", "repro", "unpack@demo")
    assert contents(faces) == before
    put(project, synthetic=section, datasets={"demo": {}})
    for command in (
        ("checkout", "--force"), ("repro", "unpack@demo"), ("repro", "--force", "-s", "synthesize@demo"),
        ("gc", "--workspace", "--force"), ("checkout", "--force"),
    ):  # fmt: skip
        project.run("dvc", *command, check=False)
    assert contents(faces) == before
    assert (project.path / "data/demo/train/truth.parquet").is_file()


def test_a_link_to_a_folder_is_refused_before_a_set_is_drawn_through_it(project: Project, faces: Path):
    before, section = contents(faces), synthetic(project)
    put(project, synthetic={"demo": {**section["demo"], "seed": 7}})
    shutil.rmtree(project.path / "data/demo")
    (project.path / "data/demo").symlink_to(faces)
    printed = project.run("dvc", "repro", "unpack@demo", check=False)
    assert "data/demo is a link to" in printed
    assert "Running stage 'synthesize" not in printed
    assert contents(faces) == before


def test_the_results_of_one_folder_are_never_reported_as_those_of_another(project: Project, faces: Path, tmp_path: Path):
    other = tmp_path / "other"
    images = [(small_sets.encoded(identity, 9), identity) for identity in range(3)]
    insightface_rec.write(other / "train", images, 3)
    (other / "eval").mkdir()
    cards = []
    for folder in (faces, other, faces):
        put(project, datasets={"demo": {}, "mine": {"root": str(folder)}})
        project.run("dvc", "repro", "unpack@mine")
        cards.append((project.path / "data/unpacked/mine/card.json").read_text())
    assert cards[0] == cards[2] != cards[1]
    assert "up to date" in project.run("dvc", "status", "unpack@mine")


def test_a_machine_that_has_a_folder_elsewhere_says_so_and_runs_nothing_again(project: Project, faces: Path, tmp_path: Path):
    put(project, datasets={"demo": {}, "mine": {"root": str(faces)}})
    project.run("dvc", "repro", "unpack@mine")
    elsewhere = shutil.move(faces, tmp_path / "another disk")
    there = {"FACET_DATA": f"{faces}={elsewhere}"}
    assert "unpack@mine' didn't change" in project.run("dvc", "repro", "unpack@mine", **there)
    doctor = ("python", "-m", "pipeline.cli", "doctor", "mine")
    assert "lfw" in project.run(*doctor, **there)
    refused = project.run(*doctor, check=False, FACET_DATA=f"{faces}")
    assert "FACET_DATA: wanted absolute paths" in refused
    assert "Traceback" not in refused


def test_facet_run_sees_what_changed_in_a_folder_and_lists_again_what_was_lost(project: Project, faces: Path):
    put(project, datasets={"demo": {}, "mine": {"root": str(faces)}})
    project.run("dvc", "repro", "unpack@mine")
    facet = ("python", "-m", "pipeline.cli", "status", "unpack@mine")
    shutil.rmtree(project.path / "data/mine")
    assert re.search(r"^unpack@mine +done", project.run(*facet), re.MULTILINE)
    (faces / "train/train.lst").write_text("edited")
    assert re.search(r"^unpack@mine +stale +data/mine/train modified", project.run(*facet), re.MULTILINE)
    (faces / "train/train.lst").write_text("edited again")
    printed = project.run("dvc", "repro", "--force", "-s", "unpack@mine", check=False)
    assert 'the first is "train.lst"' in printed, "a plain stage refuses what was not listed"
    project.run("dvc", "repro", "--force", "-s", "resolve")
    project.run("dvc", "repro", "-s", "unpack@mine")


def test_dvc_leaves_a_folder_alone_when_its_name_is_taken_out_of_params(project: Project, faces: Path):
    before = contents(faces)
    put(project, datasets={"demo": {}, "mine": {"root": str(faces)}})
    project.run("dvc", "repro", "unpack@mine")
    put(project, datasets={"demo": {}})
    for command in (("checkout", "--force"), ("repro", "unpack@demo"), ("gc", "--workspace", "--force")):
        project.run("dvc", *command, check=False)
    assert contents(faces) == before


def test_links_at_every_level_of_a_folder_are_followed_and_left(project: Project, faces: Path, tmp_path: Path):
    (faces / "train").rename(tmp_path / "disk")
    (faces / "train").symlink_to(tmp_path / "disk")
    (tmp_path / "link").symlink_to(faces)
    before = contents(tmp_path / "disk")
    put(project, datasets={"demo": {}, "mine": {"root": str(tmp_path / "link")}})
    project.run("dvc", "repro", "unpack@mine")
    project.run("dvc", "repro", "--force", "unpack@mine")
    assert contents(tmp_path / "disk") == before
    assert (faces / "train").is_symlink()


def test_a_flat_folder_as_it_was_downloaded_is_read_where_it_is(project: Project, faces: Path):
    flatten(faces)
    before = contents(faces)
    put(project, datasets={"demo": {}, "mine": {"root": str(faces)}})
    project.run("dvc", "repro", "unpack@mine")
    card = json.loads((project.path / "data/unpacked/mine/card.json").read_text())
    assert card["bad_records"] == []
    assert card["images"] > 30
    assert contents(faces) == before
    (faces / "lfw.bin").write_bytes(b"another test set")
    facet = ("python", "-m", "pipeline.cli", "status", "unpack@mine")
    assert re.search(r"^unpack@mine +done", project.run(*facet), re.MULTILINE), "training knows of no test set"


def test_a_merge_of_records_and_a_folder_of_people_follows_its_sources(project: Project, faces: Path, tmp_path: Path):
    crowd = tmp_path / "crowd"
    for identity in range(3):
        (crowd / f"person {identity}").mkdir(parents=True)
        (crowd / f"person {identity}" / "1.png").write_bytes(small_sets.encoded(identity, 1))
    before = contents(crowd) | contents(faces)
    both = {"sources": ["crowd", "web"]}
    roots = {"crowd": {"root": str(crowd)}, "web": {"root": str(faces)}}
    put(project, datasets={"demo": {}, **roots, "both": both})
    project.run("dvc", "repro", "unpack@both", "unpack@web")
    card, web = (json.loads((project.path / f"data/unpacked/{name}/card.json").read_text()) for name in ("both", "web"))
    assert (card["num_classes"], card["images"]) == (3 + web["num_classes"], 3 + web["images"])
    assert contents(crowd) | contents(faces) == before
    (crowd / "person 1" / "1.png").write_bytes(small_sets.encoded(1, 2))
    facet = ("python", "-m", "pipeline.cli", "status", "unpack@both", "unpack@web")
    printed = project.run(*facet)
    assert re.search(r"^unpack@both +stale +data/both/train modified", printed, re.MULTILINE), printed
    assert re.search(r"^unpack@web +done", printed, re.MULTILINE), printed
