from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.workspaces import ablations, own_data
from pipeline.workspaces.ablations import Ablations
from tests.support import PARAMS, ROOT

BOTH = r"demo: it is under `synthetic` and datasets\.demo\.root is mine"


def write(folder: Path, tree: dict[str, Any]) -> None:
    (folder / "params.yaml").write_text(yaml.safe_dump(tree))


def test_an_entry_that_is_both_is_refused_before_the_graph_is_read(tmp_path: Path) -> None:
    write(tmp_path, {"synthetic": {"demo": {}}, "datasets": {"demo": {"root": "mine"}}})
    with pytest.raises(ValueError, match=BOTH):
        own_data.look(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "datasets: [a]", "datasets: {a: 1}", "datasets:", "a: [", "datasets: {a: {}}"])
def test_a_params_file_that_names_no_folder_is_left_to_dvc(tmp_path: Path, text: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    own_data.look(tmp_path)


def test_what_the_program_that_lists_refuses_is_one_sentence(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "stages", tmp_path / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    write(tmp_path, {"datasets": {"mine": {"root": "nowhere"}}})
    with pytest.raises(ValueError, match=r"^datasets\.mine\.root: no folder nowhere; it should hold training files and test sets$"):
        own_data.look(tmp_path)
    (tmp_path / "nowhere/train").mkdir(parents=True)
    (tmp_path / "nowhere/train/train.rec").write_text("x")
    own_data.look(tmp_path)
    assert '"train.rec"' in (tmp_path / "data/mine/train/contents.txt").read_text()


def test_lost_pins_of_resolved_runs_are_written_again_where_all_data_are_synthetic(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "stages", tmp_path / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    write(tmp_path, {"datasets": {"demo": {}}})
    own_data.look(tmp_path)
    assert not (tmp_path / "pins").exists()
    (tmp_path / "resolved/runs").mkdir(parents=True)
    (tmp_path / "resolved/runs/a.yaml").write_text("evaluate_hq: {dataset: demo, switches: {sets: [lfw]}}")
    own_data.look(tmp_path)
    assert yaml.safe_load((tmp_path / "pins/a.yaml").read_text()) == {"validation": {}, "evaluate_hq": {}}
    # trainings depend on the weights that they start from, and those of this one are drawn from its seed
    shutil.rmtree(tmp_path / "initial")
    own_data.look(tmp_path)
    assert [path.name for path in (tmp_path / "initial/a").iterdir()] == ["none.txt"]


@pytest.mark.parametrize("entry", ["demo", "demo_ms1mv2"])
def test_ablations_refuse_a_folder_under_the_name_of_a_drawn_set(tmp_path: Path, entry: str) -> None:
    for name in ("ablations", "tables"):
        shutil.copytree(ROOT / name, tmp_path / name)
    tree = yaml.safe_load((PARAMS).read_text())
    drawn = [*tree["synthetic"], *yaml.safe_load((ROOT / "ablations/demo.yaml").read_text())["synthetic"]]
    name = entry if entry in drawn else drawn[-1]
    write(tmp_path, {**tree, "datasets": {"demo": {}, name: {"root": "mine"}}})
    with pytest.raises(ValueError, match=BOTH.replace("demo", name)):
        ablations.params(tmp_path, Ablations("demo", {"qgface_ablation": (0,)}))
