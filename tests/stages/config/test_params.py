from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.config import params
from stages.config.training import Schedule
from stages.runtime import plugins

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the parameter files that a test may edit."""
    for name in ("profiles", "tables"):
        (tmp_path / name).mkdir()
        for path in (ROOT / name).glob("*.yaml"):
            (tmp_path / name / path.name).write_text(path.read_text())
    (tmp_path / "params.yaml").write_text((ROOT / "tests/project/params.yaml").read_text())
    return tmp_path


def edit(project: Path, change: dict[str, Any]) -> None:
    path = project / "params.yaml"
    path.write_text(yaml.safe_dump(params.merge(yaml.safe_load(path.read_text()), change), sort_keys=False))


def test_a_run_takes_what_it_does_not_say_from_the_profile(project: Path):
    run = params.load(project).runs["adaface"]
    assert run.train.head["margin"] == 0.4
    profile = yaml.safe_load((project / "profiles/demo.yaml").read_text())["defaults"]
    assert run.train.schedule.epochs == profile["schedule"]["epochs"]
    assert run.train.backbone == profile["backbone"]


def test_a_run_overrides_the_profile_field_by_field(project: Path):
    edit(project, {"runs": {"adaface": {"schedule": {"epochs": 99}}}})
    loaded = params.load(project).runs
    assert loaded["adaface"].train.schedule.epochs == 99
    assert loaded["adaface"].train.schedule.batch_size == loaded["arcface"].train.schedule.batch_size
    assert loaded["arcface"].train.schedule.epochs != 99


def test_the_projects_own_runs_are_the_rows_of_its_table():
    own = params.load(ROOT)
    assert own.measured("demo") == {"baseline": {"demo-baseline": "baseline"}, "adaface": {"demo-adaface": "adaface"},
                                    "qgface": {"demo-qgface": "qgface"}}
    assert own.runs["qgface"].train.objective["name"] == "qgface"


@pytest.mark.parametrize("profile", ["demo", "paper", "quick"])
def test_every_profile_resolves(project: Path, profile: str):
    edit(project, {"profile": profile})
    assert set(params.load(project).runs) == {"arcface", "cosface", "adaface"}


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"runs": {"adaface": {"head": {"margin": 7}}}}, ValueError, ["runs.adaface", "margin", "7"]),
        ({"runs": {"adaface": {"head": {"margn": 0.4}}}}, ValueError, ["runs.adaface", "margn"]),
        ({"runs": {"adaface": {"head": {"name": "adafacee"}}}}, LookupError, ["adafacee", "arcface, "]),
        ({"runs": {"adaface": {"head": 5}}}, ValueError, ["runs.adaface", "head: {name: ...}", "5"]),
        ({"runs": {"adaface": {"head": "adaface"}}}, ValueError, ["runs.adaface", "head: {name: ...}"]),
        ({"runs": {"adaface": {"quality": 5}}}, ValueError, ["runs.adaface, quality: wanted a mapping with `name`, got 5"]),
        ({"runs": {"adaface": {"quality": "feature_norm"}}}, ValueError, ["runs.adaface, quality: wanted a mapping"]),
        ({"runs": {"adaface": {"dataset": "nowhere"}}}, LookupError, ["nowhere", "demo"]),
        ({"runs": {"x": {"head": {"name": "adaface"}}}}, ValueError, ["runs.x", "dataset"]),
        ({"runs": {"adaface": {"schedul": {}}}}, ValueError, ["schedul"]),
        ({"runs": {"ada.face": {"dataset": "demo", "head": {"name": "adaface"}}}}, ValueError, ["ada.face"]),
        ({"datasets": {"mine": {}}}, LookupError, ["datasets.mine", "root", "synthetic"]),
        ({"profile": "fast"}, FileNotFoundError, ["profiles/fast.yaml"]),
        ({"tables": {"other": {}}}, FileNotFoundError, ["tables/other.yaml"]),
        ({"rows": {"heads-x": {"table": "heads", "run": "nope"}}}, LookupError, ["heads-x", "nope"]),
        ({"rows": {"heads-x": {"table": "heads", "run": "adaface"}}}, ValueError, ["tables/heads.yaml", "heads-ROW"]),
        ({"rows": {"other-x": {"table": "other", "run": "adaface"}}}, LookupError, ["'other'", "there are heads"]),
        ({"rows": {"heads-adaface-x": {"table": "heads", "run": "adaface"}}}, ValueError, ["heads-adaface-x"]),
        ({"rows": {"heads-adaface-1": {"table": "heads", "run": "adaface"}}}, ValueError, ["train.seed", "nothing"]),
        ({"runs": {"adaface": {"shares": {"web": 1}}}}, ValueError, ["runs.adaface, shares", "single one", "got web"]),
        ({"recognition": {"judge": {"foldr": "models/judge"}}}, ValueError, ["recognition.judge", "foldr"]),
        ({"rows": {"heads-adaface-1": {"table": "heads", "run": "cosface"}}}, ValueError,
         ["rows.heads-adaface-1", "train.seed alone", "train.head.margin", "train.head.name"]),
    ],
)
def test_a_mistake_is_one_sentence_that_names_it(
    project: Path, change: dict[str, Any], error: type[Exception], words: list[str]
):
    edit(project, change)
    with pytest.raises(error) as caught:
        params.load(project)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epoch": 2}, "runs.adaface: epoch: no such field; did you mean schedule.epochs? there are dataset, backbone, "),
        ({"head": {"marginn": 0.4}}, "runs.adaface, head: marginn: no such field; did you mean margin? there are name, "),
        ({"schedule": {"epoch": 2}}, "runs.adaface: schedule.epoch: no such field; did you mean epochs? there are epochs, "),
        ({"zzz": 1}, "runs.adaface: zzz: no such field; there are dataset, "),
    ],
)
def test_an_unknown_field_is_told_with_those_there_are(project: Path, change: dict[str, Any], words: str):
    edit(project, {"runs": {"adaface": change}})
    with pytest.raises(ValueError, match=re.escape(words)):
        params.load(project)


def test_a_data_set_may_say_which_benchmarks_it_has(project: Path):
    edit(project, {"datasets": {"mine": {"root": "/somewhere", "benchmarks": {"hq": {"sets": ["lfw"]}}}},
                   "runs": {"adaface": {"dataset": "mine"}}})
    assert params.load(project).runs["adaface"].evaluate.hq.sets == ("lfw",)
    assert len(params.load(project).runs["arcface"].evaluate.hq.sets) == 7


@pytest.mark.parametrize("suite", ["hq", "ijb", "lq", "fiqa"])
@pytest.mark.parametrize("nothing", [None, {"sets": []}])
def test_a_data_set_may_lack_every_set_of_a_suite(project: Path, suite: str, nothing: object):
    edit(project, {"datasets": {"mine": {"root": "/somewhere", "benchmarks": {suite: nothing}}},
                   "runs": {"adaface": {"dataset": "mine"}}})
    found = params.load(project).runs["adaface"].evaluate
    assert [name for name in ("hq", "ijb", "lq", "fiqa") if not getattr(found, name).sets] == [suite]


def test_without_any_benchmarks_nothing_is_measured(project: Path):
    for path in (project / "profiles").glob("*.yaml"):
        tree = yaml.safe_load(path.read_text())
        tree["defaults"].pop("benchmarks", None)
        path.write_text(yaml.safe_dump(tree))
    found = params.load(project).runs["adaface"].evaluate
    assert not any((found.hq.sets, found.ijb.sets, found.lq.sets, found.fiqa.sets))


def test_a_table_knows_which_of_its_test_sets_are_the_published_ones(project: Path):
    edit(project, {"datasets": {"mine": {"root": "/somewhere", "published": ["lfw"]}, "other": {"root": "/elsewhere"}},
                   "runs": {"adaface": {"dataset": "mine"}}})
    data = params.load(project).scale("heads").data
    assert {name: (one.synthetic, one.published) for name, one in data.items()} == {
        "demo": (True, ()), "mine": (False, ("lfw",)),
    }  # fmt: skip


def test_a_run_may_be_measured_on_another_data_set_that_is_a_folder(project: Path):
    alone = {"root": "/somewhere", "benchmarks": {"hq": {"sets": ["African"]}, "ijb": None}, "published": ["African"]}
    edit(project, {"datasets": {"alone": alone}, "runs": {"adaface": {"benchmarks": {"dataset": "alone"}}}})
    loaded = params.load(project)
    run = loaded.runs["adaface"]
    assert (run.train.dataset, run.evaluate.dataset, run.evaluate.hq.sets, run.evaluate.ijb.sets) == ("demo", "alone", ("African",), ())
    assert set(loaded.scale("heads").data) == {"demo", "alone"}


@pytest.mark.parametrize(
    ("name", "entry", "error", "words"),
    [
        ("nowhere", {"root": "/somewhere"}, LookupError, r"runs\.adaface, benchmarks\.dataset: no data set 'nowhere': there are al"),
        ("demo", {"root": "/somewhere"}, ValueError, "demo is synthetic; a run is measured on .* trained on, alone, or on a folder"),
        ("alone", {"root": "/x", "benchmarks": {"dataset": "demo"}}, ValueError, r"datasets\.alone\.benchmarks: `dataset` is for runs"),
    ],
)
def test_a_data_set_that_a_run_cannot_be_measured_on_is_refused(
    project: Path, name: str, entry: dict[str, Any], error: type[Exception], words: str
):
    edit(project, {"datasets": {"alone": entry}, "runs": {"adaface": {"dataset": "alone", "benchmarks": {"dataset": name}}}})
    with pytest.raises(error, match=words):
        params.load(project)


RECIPES = sorted(path.stem for path in (ROOT / "profiles/recipes").glob("*.yaml"))


@pytest.mark.parametrize(
    ("batch_size", "chunks", "processes", "parts", "least"), [(4, 4, 1, 1, 8), (16, 1, 16, 1, 32), (8, 2, 4, 1, 16)]
)
def test_parts_of_one_image_are_refused_before_anything_runs(
    project: Path, batch_size: int, chunks: int, processes: int, parts: int, least: int
):
    change = {"schedule": {"batch_size": batch_size}, "compute": {"chunks": chunks}, "processes": processes}
    words = f"batch_size {batch_size}, shared by {processes} processes in {chunks} compute.chunks, leaves parts of {parts} "
    edit(project, {"runs": {"adaface": change}})
    with pytest.raises(ValueError, match=f"{words}.* at least {least}"):
        params.load(project)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_resolves_and_its_sections_stand_whole_in_the_profiles_place(project: Path, recipe: str):
    shutil.copytree(ROOT / "profiles/recipes", project / "profiles/recipes")
    said = yaml.safe_load((ROOT / f"profiles/recipes/{recipe}.yaml").read_text())
    run = {"dataset": "demo", "recipe": recipe, "head": {"name": said["head"]["name"]}}
    edit(project, {"runs": {"published": run}})
    train = params.load(project).runs["published"].train
    assert train.head == said["head"]
    assert train.backbone == said["backbone"]
    # demo.yaml has warm-ups and a smaller scale: nothing of them is left
    assert train.schedule.margin_warmup_epochs == 0
    assert train.schedule == Schedule.model_validate(said["schedule"])
    module = plugins.load("backbones", train.backbone["name"])
    assert module.Config.model_validate(train.backbone).feature_dim == 512


def test_a_run_overrides_its_recipe_field_by_field(project: Path):
    shutil.copytree(ROOT / "profiles/recipes", project / "profiles/recipes")
    edit(project, {"runs": {"adaface": {"recipe": "adaface", "schedule": {"epochs": 3, "milestones": [1]}}}})
    schedule = params.load(project).runs["adaface"].train.schedule
    assert (schedule.epochs, schedule.milestones, schedule.batch_size) == (3, (1,), 512)


def test_a_recipe_that_is_not_there_is_refused_with_those_there_are(project: Path):
    shutil.copytree(ROOT / "profiles/recipes", project / "profiles/recipes")
    edit(project, {"runs": {"adaface": {"recipe": "adafaces"}}})
    with pytest.raises(LookupError, match="no recipe 'adafaces': there are adaface, cr_fiqa_l"):
        params.load(project)


def test_validation_on_a_set_that_is_none_is_refused_when_parameters_are_resolved(project: Path):
    edit(project, {"runs": {"adaface": {"validation": {"every_epochs": 1, "sets": ["lwf"]}}}})
    with pytest.raises(ValueError, match=r"runs\.adaface, validation.*lwf"):
        params.load(project)


def seeded(project: Path, *seeds: int) -> None:
    """Give AdaFace's row further runs that differ in their seed."""
    own = yaml.safe_load((project / "params.yaml").read_text())["runs"]["adaface"]
    for place, seed in enumerate(seeds, start=1):
        run = {f"adaface_s{place}": {**own, "seed": seed}}
        edit(project, {"runs": run, "rows": {f"heads-adaface-{place}": {"table": "heads", "run": f"adaface_s{place}"}}})


def test_a_row_may_have_a_run_for_each_seed_in_the_order_of_their_numbers(project: Path):
    seeded(project, *range(1, 12))
    measured = params.load(project).measured("heads")
    assert measured["arcface"] == {"heads-arcface": "arcface"}
    assert list(measured["adaface"])[:3] == ["heads-adaface", "heads-adaface-1", "heads-adaface-2"]
    assert list(measured["adaface"].items())[-1] == ("heads-adaface-11", "adaface_s11")


def test_a_seed_twice_in_a_row_is_refused(project: Path):
    seeded(project, 1, 1)
    with pytest.raises(ValueError, match=r"heads-adaface-2: seeds should differ, they are \[0, 1, 1\]"):
        params.load(project)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rows": {"adaface": {"run": "adafaec"}}}, "no run 'adafaec': there are adaface, arcface, cosface"),
        ({"columns": [{"name": "LFW", "metric": "hqq.lfw"}]}, "no suite 'hqq' in 'hqq.lfw': there are train, qual"),
    ],
)
def test_a_broken_table_is_refused_before_anything_runs_with_the_names_there_are(
    project: Path, change: dict[str, Any], words: str
):
    path = project / "tables/heads.yaml"
    tree = params.merge(yaml.safe_load(path.read_text()), change)
    if "columns" in change:
        tree["rows"] = {key: {**row, "published": {}} for key, row in tree["rows"].items()}
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    with pytest.raises(LookupError, match=words):
        params.load(project)


def test_a_merged_set_is_no_synthetic_one(project: Path):
    datasets = {"web": {"root": "/w"}, "crowd": {"root": "/c"}, "both": {"sources": ["web", "crowd"]}}
    run = {"dataset": "both", "benchmarks": {"hq": {"sets": ["my_own"]}}}
    edit(project, {"datasets": datasets, "runs": {"arcface": run}})
    loaded = params.load(project)
    assert loaded.datasets["both"].sources == ("web", "crowd")
    assert loaded.runs["arcface"].evaluate.hq.sets == ("my_own",)
