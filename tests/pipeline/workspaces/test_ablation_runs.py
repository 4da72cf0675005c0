"""Every training run of the papers' tables, resolved: at the papers' own scale it is the papers' recipe."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.workspaces import ablations
from pipeline.workspaces.ablations import Ablations
from stages import row
from stages.config import params
from stages.config.params import Params, Run
from stages.config.training import Augmentation, Compute, Schedule
from stages.core.metrics.missing import left_out
from tests.support import PARAMS, ROOT

UNITS = {"r18": [2, 2, 2, 2], "r34": [3, 4, 6, 3], "r50": [3, 4, 14, 3], "r100": [3, 13, 30, 3]}
# What a run of the profile paper is, typed from the reference's section 5: by recipe, network, epochs, images a step, rate,
# where it falls, precision, seed, colours
PAPER = {
    "qgface": ("iresnet", 12, 512, 0.2, (6, 9), "fp16", 0, "BGR"),
    "adaface": ("iresnet", 26, 512, 0.1, (12, 20, 24), "fp16", 42, "BGR"),
    "insightface": ("iresnet", 20, 1024, 0.1, (), "fp16", 2048, "RGB"),
    "curricularface": ("curricularface", 24, 512, 0.1, (10, 18, 22), "fp32", 1337, "RGB"),
    "magface": ("magface", 25, 512, 0.1, (10, 18, 22), "fp32", 0, "BGR"),
    "cr_fiqa_s": ("cr_fiqa", 34, 512, 0.1, (19, 27, 31), "fp32", 0, "RGB"),
    "ig_fiqa": ("cr_fiqa", 34, 512, 0.1, (19, 27, 31), "fp32", 0, "RGB"),
}
AUGMENTED = (
    "adaface_r", "curricularface_r18_p", "qgface_a", "qgface_b", "qgface_c", "ig_fiqa", "cr_fiqa_augmented", "norm",
)  # fmt: skip
PROBABILITIES = {"qgface_baseline": 0.0, "p00": 0.0, "p10": 0.1, "p30": 0.3}
RUNS: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "ablations/runs.yaml").read_text())
PROFILES = ("demo", "paper", "faces")


@pytest.fixture(scope="module")
def resolved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Params]:
    """All tables of each profile, resolved from the params.yaml that `facet ablations` makes."""
    return {profile: resolve(tmp_path_factory.mktemp(profile), profile) for profile in PROFILES}


def resolve(folder: Path, profile: str) -> Params:
    for name in ("ablations", "profiles", "tables"):
        shutil.copytree(ROOT / name, folder / name)
    tree = yaml.safe_load((PARAMS).read_text())
    for name in ("casia", "vgg2", "ms1mv2", "ms1mv3", "wf4m", "wf12m", "faces"):
        (folder / "sets" / name).mkdir(parents=True)
        tree["datasets"][name] = {"root": f"sets/{name}"}
    (folder / "params.yaml").write_text(yaml.safe_dump(tree))
    tables = [name for name in ablations.tables(folder, profile) if name != "heads"]
    asked = Ablations(profile, {name: () for name in tables})
    (folder / "params.yaml").write_text(yaml.safe_dump(ablations.params(folder, asked)))
    return params.load(folder)


@pytest.mark.parametrize("profile", ["demo", "paper"])
def test_every_run_of_every_table_resolves(resolved: dict[str, Params], profile: str):
    assert set(resolved[profile].runs) == set(RUNS)
    assert len(resolved[profile].tables) >= 14


def test_tables_on_real_faces_resolve(resolved: dict[str, Params]):
    assert set(resolved["faces"].tables) == {"qgface_ablation", "adaface_arcface", "adaface_margin", "ig_fiqa"}
    assert {run.train.dataset for run in resolved["faces"].runs.values()} == {"faces"}


@pytest.mark.parametrize("name", sorted(RUNS))
def test_a_run_at_the_documents_scale_is_the_documents_recipe(resolved: dict[str, Params], name: str):
    run, said = resolved["paper"].runs[name], RUNS[name]
    network, epochs, batch_size, rate, milestones, precision, seed, colours = PAPER[said["recipe"]]
    train = run.train
    assert train.backbone["name"] == network
    assert train.backbone["units"] == UNITS[said["net"]]
    assert (train.backbone["widths"], train.backbone["feature_dim"]) == ([64, 128, 256, 512], 512)
    schedule = train.schedule
    assert (schedule.epochs, schedule.batch_size, schedule.learning_rate) == (epochs, batch_size, rate)
    assert schedule.milestones == milestones
    assert (train.compute.precision, train.seed, train.color_order) == (precision, seed, colours)
    assert schedule.margin_warmup_epochs == 0
    assert schedule.clip_norm == (5 if said["recipe"] in ("insightface", "cr_fiqa_s", "ig_fiqa") else None)


@pytest.mark.parametrize("name", sorted(RUNS))
def test_a_run_takes_whole_sections_of_its_recipe(resolved: dict[str, Params], name: str):
    recipe = yaml.safe_load((ROOT / f"profiles/recipes/{RUNS[name]['recipe']}.yaml").read_text())
    train = resolved["paper"].runs[name].train
    assert train.schedule == Schedule.model_validate(recipe["schedule"])
    assert train.compute == Compute.model_validate(recipe["compute"])
    assert {**train.backbone, "units": None} == {**recipe["backbone"], "units": None}
    if train.head["name"] == recipe["head"]["name"]:
        assert set(recipe["head"]) <= set(train.head)


@pytest.mark.parametrize("name", sorted(RUNS))
def test_only_those_augment_whose_documents_do(resolved: dict[str, Params], name: str):
    expected = 0.2 if name.startswith(AUGMENTED) else 0.0
    expected = next((p for key, p in PROBABILITIES.items() if name.endswith(key)), expected)
    for profile in ("demo", "paper"):
        assert probabilities(resolved[profile].runs[name]) == {expected}
    recipe = yaml.safe_load((ROOT / f"profiles/recipes/{RUNS[name]['recipe']}.yaml").read_text())
    published = Augmentation.model_validate(recipe["augmentation"]).crop_probability
    differs = expected != published
    # rows that ask what augmentation does, what QGFace's own views add, and IG-FIQA's, whose operations are not public
    assert not differs or name.startswith(("qgface_", "adaface_r18_p", "curricularface_r18_p", "ig_fiqa", "cr_fiqa_aug"))


def probabilities(run: Run) -> set[float]:
    chosen = run.train.augmentation
    return {chosen.crop_probability, chosen.low_res_probability, chosen.photometric_probability}


def test_heads_have_the_published_numbers(resolved: dict[str, Params]):
    runs = {name: run.train.head for name, run in resolved["paper"].runs.items()}
    adaface = {"margin": 0.4, "h": 0.333, "scale": 64, "t_alpha": 0.01, "initial_mean": 20, "initial_std": 100}
    assert runs["adaface_r100_ms1mv2"] == {"name": "adaface", **adaface}
    assert runs["qgface_d"].items() >= {"margin": 0.4, "h": 0.333, "scale": 64, "initial_mean": 0}.items()
    assert runs["arcface_r100_ms1mv2"].items() >= {"margin": 0.5, "scale": 64, "gradient": "straight_through"}.items()
    magface = {"min_norm": 10, "max_norm": 110, "min_margin": 0.45, "max_margin": 0.8, "norm_weight": 35}
    assert runs["magface_r100_ms1mv2"].items() >= {**magface, "easy_margin": True, "scale": 64}.items()
    assert runs["curricularface_r100_wf4m"].items() >= {"margin": 0.5, "scale": 64, "t_alpha": 0.01}.items()


def test_rows_of_adafaces_ablation_differ_from_its_middle_in_one_number_each(resolved: dict[str, Params]):
    for profile in PROFILES:
        runs = {name: run.train.model_dump() for name, run in resolved[profile].runs.items()}
        middle = runs["adaface_r18_ms1mv2"]
        for name in ("h22", "h66", "m50", "m75", "brisque", "true_class"):
            other = runs[f"adaface_r18_{name}"]
            assert {key for key in other if other[key] != middle[key]} == {"head"}
            assert len(dict(other["head"].items() - middle["head"].items())) == 1


def test_every_ablation_parameter_tells_rows_of_its_table_apart(resolved: dict[str, Params]):
    for name, table in resolved["paper"].tables.items():
        runs = [resolved["paper"].runs[line.run].train.model_dump() for line in table.rows.values() if line.run]
        for parameter in table.ablation:
            values = [str(dict(row.flatten(train)).get(parameter)) for train in runs]
            assert set(values) != {"None"}, f"{name}: no run has {parameter}"
            assert len(runs) == 1 or len(set(values)) > 1, f"{name}: {parameter} is the same in every row"


def test_magfaces_grid_differs_in_margins_alone_and_its_norms_may_move(resolved: dict[str, Params]):
    for profile in ("demo", "paper"):
        runs = {name: run.train.model_dump() for name, run in resolved[profile].runs.items() if name[:9] == "magface_l"}
        assert len(runs) == 9
        for train in runs.values():
            assert train["backbone"]["name"] == "magface"
            assert {k: train["head"][k] for k in ("min_norm", "max_norm", "norm_weight")} == {
                "min_norm": 10, "max_norm": 110, "norm_weight": 35,
            }  # fmt: skip
        same = [{**t, "head": {**t["head"], "min_margin": 0, "max_margin": 0}} for t in runs.values()]
        assert all(train == same[0] for train in same)


def test_the_quality_table_measures_every_set_its_columns_name(resolved: dict[str, Params]):
    table = resolved["demo"].tables["ig_fiqa"]
    for line in table.rows.values():
        assert line.run is not None
        run = resolved["demo"].runs[line.run]
        assert run.quality.model_dump()["name"] == line.quality
        for column in table.columns:
            assert column.key(line).startswith(tuple(run.evaluate.fiqa.sets))


@pytest.mark.parametrize("profile", ["demo", "paper"])
def test_every_column_of_every_table_is_measured(resolved: dict[str, Params], profile: str):
    for name, table in resolved[profile].tables.items():
        for line in table.rows.values():
            if line.run is None:
                continue
            evaluate = resolved[profile].runs[line.run].evaluate.model_dump(mode="json")
            for column in table.columns:
                switches = row.switches({"switches": evaluate.get(column.suite, {})})
                # CR-FIQA's curves are not drawn on IJB-B, so the papers' scale has none there
                left = (profile, name) == ("paper", "ig_fiqa") and column.name in ("IJB-B", "IJB-B by AdaFace")
                reason = left_out(column.suite, column.key(line), switches)
                assert (reason is not None) == left, f"{name}: {column.name}: {reason}"
