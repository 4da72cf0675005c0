"""README's eight lines for MS1MV3 and four GPUs, run as they stand on a small stand-in, in four processes on a CPU."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from stages.datasets import insightface_rec
from tests.stages import small_sets
from tests.support import ROOT, Project

# a training in four processes and both servers, as README promises: no fake stands for them
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

HEADING = "## I have MS1MV3 and four GPUs: what do I type?"
INSTALLED = "make install && source .venv/bin/activate"
FOLDER = "/data/ms1m-retinaface-t1"


def lines() -> list[str]:
    """Return the commands of README, without comments."""
    block = (ROOT / "README.md").read_text(encoding="utf-8").partition(HEADING)[2].split("```")[1]
    return [line.partition(" #")[0].strip() for line in block.strip().replace("\\\n", "").splitlines()]


@pytest.fixture(scope="module")
def typed(make_project: Callable[[], Project], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Project, dict[str, str]]]:
    """A project in which README's lines were typed, and what each printed, by its second word."""
    folder = tmp_path_factory.mktemp("data") / "ms1m-retinaface-t1"
    images = [(small_sets.encoded(identity, seed), identity) for identity in range(8) for seed in range(8)]
    insightface_rec.write(folder, images, 8)
    for name in ("lfw", "cfp_fp", "agedb_30"):
        small_sets.write_bin(folder / f"{name}.bin", num_pairs=100)
    project = make_project()
    stand_in(project.path / "profiles/recipes/adaface.yaml")
    project.run("git", "commit", "-qam", "a recipe for a CPU")
    printed = {}
    try:
        for line in lines()[1:]:
            # a person is asked before params.yaml is written; nobody can be asked here
            command = line.replace(FOLDER, str(folder)) + (" --yes" if " add" in line else "")
            printed[line.split()[1]] = project.run("bash", "-c", command, timeout=600)
        yield project, printed
    finally:
        project.run("facet", "down")


def stand_in(path: Path) -> None:
    """Make a recipe small: its head, augmentation and checks stay, the network and the number of steps do not."""
    tree = yaml.safe_load(path.read_text())
    tree["backbone"] |= {"units": [1, 1, 1, 1], "widths": [4, 4, 8, 8], "stem_stride": 2, "feature_dim": 16, "dropout": 0.0}
    tree["schedule"] |= {"epochs": 2, "batch_size": 16, "milestones": [1]}
    tree["compute"] = {"precision": "fp32"}
    tree["validation"] |= {"sets": ["lfw"]}
    path.write_text(yaml.safe_dump(tree))


def test_there_are_eight_lines_and_the_first_installs():
    assert len(lines()) == 8
    assert lines()[0] == INSTALLED


def test_the_run_was_trained_in_four_processes_with_the_recipes_head(typed: tuple[Project, dict[str, str]]):
    project, _ = typed
    run = yaml.safe_load((project.path / "resolved/runs/ms1mv3_adaface.yaml").read_text())["train"]
    assert run["processes"] == 4
    assert run["head"] | {"name": "adaface", "margin": 0.4, "h": 0.333, "t_alpha": 0.01} == run["head"]
    assert run["augmentation"]["low_res_probability"] == 0.2, "of the recipe"
    environment = json.loads((project.path / "runs/ms1mv3_adaface/backbone/environment.json").read_text())
    assert environment["processes"] == 4


def test_each_line_prints_what_it_promises(typed: tuple[Project, dict[str, str]]):
    _, printed = typed
    assert "GPU" in printed["doctor"]
    assert "ms1mv3" in printed["add"]
    assert re.search(r"GiB", printed["plan"])
    assert "LFW" in printed["table"].upper()
    assert "results/ms1mv3_adaface/page/index.html" in printed["show"]


def test_the_published_sets_are_named_in_params_yaml(typed: tuple[Project, dict[str, str]]):
    project, _ = typed
    entry = yaml.safe_load((project.path / "params.yaml").read_text())["datasets"]["ms1mv3"]
    assert entry["published"] == ["lfw", "cfp_fp", "agedb_30"]
