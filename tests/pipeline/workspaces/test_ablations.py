"""`facet ablations`: the papers' tables at a scale, in a workspace of their own."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.workspaces import ablations
from pipeline.workspaces.ablations import Ablations
from tests.pipeline import dummy
from tests.pipeline.dummy import Dummy

RUNS = {
    "arc_r50_ms1mv2": {
        "data": "ms1mv2", "net": "r50", "head": {"name": "arcface", "margin": 0.5}, "recipe": "insightface",
        "at": {"demo": {"head": {"scale": 32}}},
    },
    "ada_r50_ms1mv2": {"data": "ms1mv2", "net": "r50", "head": {"name": "adaface"}},
}  # fmt: skip
DEMO = {
    "profile": "demo",
    "data": {"ms1mv2": "demo_ms1mv2"},
    "nets": {"r50": {"units": [1, 2, 4, 1]}},
    "synthetic": {"demo_ms1mv2": {"seed": 1}, "demo_other": {"seed": 1}},
    "all": {"quality": {"name": "feature_norm"}},
}
PAPER = {"profile": "paper", "data": {"ms1mv2": "ms1mv2"}, "nets": {"r50": {"units": [3, 4, 14, 3]}}}
COLUMNS = [{"name": "LFW", "metric": "hq.lfw"}]
HEADS = {
    "title": "Heads",
    "source": "none",
    "columns": COLUMNS,
    "rows": {
        "arc": {"label": "ArcFace", "run": "arc_r50_ms1mv2"},
        "ada": {"label": "AdaFace", "run": "ada_r50_ms1mv2"},
        "pfe": {"label": "PFE", "run": None},
    },
}
ALONE = {**HEADS, "title": "One", "rows": {"ada": {"label": "AdaFace", "run": "ada_r50_ms1mv2"}}}
ELSEWHERE = {**HEADS, "rows": {"mine": {"label": "Mine", "run": "mine"}}}


def write(folder: Path, trees: dict[str, Any]) -> None:
    for name, tree in trees.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(yaml.safe_dump(tree, sort_keys=False))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(
        tmp_path,
        {
            "params.yaml": {"profile": "demo", "runs": {"mine": {}}, "datasets": {"demo": {}}, "defaults": {"seed": 0}},
            "ablations/runs.yaml": RUNS,
            "ablations/demo.yaml": DEMO,
            "ablations/paper.yaml": PAPER,
            "tables/heads.yaml": HEADS,
            "tables/alone.yaml": ALONE,
            "tables/elsewhere.yaml": ELSEWHERE,
        },
    )
    return tmp_path


def test_a_profile_runs_the_tables_whose_rows_name_runs_of_the_papers(root: Path) -> None:
    assert ablations.tables(root, "demo") == ["alone", "heads"]
    write(root, {"ablations/demo.yaml": {**DEMO, "tables": ["heads"]}})
    assert ablations.tables(root, "demo") == ["heads"]


def test_words_of_the_documents_become_what_the_profile_says_they_are(root: Path) -> None:
    tree = ablations.params(root, Ablations("demo", {"heads": (0,)}))
    assert tree["runs"] == {
        "arc_r50_ms1mv2": {
            "dataset": "demo_ms1mv2",
            "backbone": {"units": [1, 2, 4, 1]},
            "quality": {"name": "feature_norm"},
            "head": {"name": "arcface", "margin": 0.5, "scale": 32},
        },
        "ada_r50_ms1mv2": {
            "dataset": "demo_ms1mv2",
            "backbone": {"units": [1, 2, 4, 1]},
            "quality": {"name": "feature_norm"},
            "head": {"name": "adaface"},
        },
    }
    assert tree["synthetic"] == {"demo_ms1mv2": {"seed": 1}}
    assert tree["datasets"] == {"demo_ms1mv2": {}}
    assert tree["rows"] == {
        "heads-arc": {"table": "heads", "run": "arc_r50_ms1mv2"},
        "heads-ada": {"table": "heads", "run": "ada_r50_ms1mv2"},
    }
    assert (tree["tables"], tree["defaults"]) == ({"heads": {}}, {"seed": 0})


def test_a_run_overrides_a_part_of_its_network(root: Path) -> None:
    runs = {**RUNS, "ada_r50_ms1mv2": {**RUNS["ada_r50_ms1mv2"], "backbone": {"stem_stride": 1}}}
    write(root, {"ablations/runs.yaml": runs})
    shown = ablations.params(root, Ablations("demo", {"heads": (0,)}))["runs"]
    assert shown["ada_r50_ms1mv2"]["backbone"] == {"units": [1, 2, 4, 1], "stem_stride": 1}
    assert shown["arc_r50_ms1mv2"]["backbone"] == {"units": [1, 2, 4, 1]}


def test_tables_share_runs_and_seeds_are_runs_of_their_own(root: Path) -> None:
    tree = ablations.params(root, Ablations("demo", {"heads": (0,), "alone": (0, 2)}))
    assert {name: run.get("seed") for name, run in tree["runs"].items()} == {
        "arc_r50_ms1mv2": None, "ada_r50_ms1mv2": None, "ada_r50_ms1mv2_s2": 2,
    }  # fmt: skip
    assert tree["rows"]["alone-ada-2"] == {"table": "alone", "run": "ada_r50_ms1mv2_s2"}
    assert "heads-ada-2" not in tree["rows"]


def test_a_recipes_seed_is_the_first_and_further_seeds_are_what_they_say(root: Path) -> None:
    (root / "sets").mkdir()
    project = yaml.safe_load((root / "params.yaml").read_text()) | {"datasets": {"ms1mv2": {"root": "sets"}}}
    write(root, {"profiles/recipes/insightface.yaml": {"seed": 2048}, "params.yaml": project})
    tree = ablations.params(root, Ablations("paper", {"heads": (0, 1, 2048)}))
    assert {name: run.get("seed") for name, run in tree["runs"].items() if name.startswith("arc")} == {
        "arc_r50_ms1mv2": None, "arc_r50_ms1mv2_s0": 0, "arc_r50_ms1mv2_s1": 1
    }  # fmt: skip
    assert [name for name in tree["rows"] if name.startswith("heads-arc")] == ["heads-arc", "heads-arc-0", "heads-arc-1"]


def test_a_flow_run_is_named_after_its_tables_if_they_are_few() -> None:
    assert Ablations("demo", {"heads": (0,), "alone": (0, 2)}).title == "heads, alone (demo)"
    assert Ablations("demo", {f"t{i}": (0,) for i in range(14)}).title == "14 tables (demo)"


def test_the_published_recipe_counts_at_the_published_scale_alone(root: Path) -> None:
    (root / "images").mkdir()
    project = yaml.safe_load((root / "params.yaml").read_text())
    write(root, {"params.yaml": {**project, "datasets": {"ms1mv2": {"root": "images"}}}})
    tree = ablations.params(root, Ablations("paper", {"heads": (0,)}))
    assert tree["runs"]["arc_r50_ms1mv2"] == {
        "dataset": "ms1mv2",
        "backbone": {"units": [3, 4, 14, 3]},
        "head": {"name": "arcface", "margin": 0.5},
        "recipe": "insightface",
    }
    assert tree["datasets"] == {"ms1mv2": {"root": str(root / "images")}}


def test_a_merged_set_brings_its_sources_and_their_places(root: Path) -> None:
    for name in ("web", "crowd"):
        (root / name).mkdir()
    both = {"sources": ["web", "crowd"], "same": "same.csv"}
    datasets = {"ms1mv2": both, "web": {"root": "web"}, "crowd": {"root": "crowd"}, "other": {"root": "nowhere"}}
    project = yaml.safe_load((root / "params.yaml").read_text())
    write(root, {"params.yaml": {**project, "datasets": datasets}})
    assert ablations.params(root, Ablations("paper", {"heads": (0,)}))["datasets"] == {
        "ms1mv2": {"sources": ["web", "crowd"], "same": str(root / "same.csv")},
        "web": {"root": str(root / "web")}, "crowd": {"root": str(root / "crowd")},
    }  # fmt: skip


def test_a_run_that_judges_the_scores_of_others_is_named_to_dvc(root: Path) -> None:
    judged = {**RUNS["arc_r50_ms1mv2"], "benchmarks": {"fiqa": {"recognition": ["ada_r50_ms1mv2", "imported"]}}}
    write(root, {"ablations/runs.yaml": {**RUNS, "arc_r50_ms1mv2": judged}})
    tree = ablations.params(root, Ablations("demo", {"heads": (0, 1)}))
    assert tree["recognition"] == {"ada_r50_ms1mv2": {"folder": "runs/ada_r50_ms1mv2/backbone"}}


def test_seeds_are_read_for_all_tables_and_for_one(root: Path) -> None:
    def asked(named: list[str], *said: str) -> dict[str, Any]:
        return dict(ablations.parse_seeds(root, "demo", named, said).seeds)

    assert asked([]) == {"alone": (), "heads": ()}
    assert asked(["heads"], "0..2") == {"heads": (0, 1, 2)}
    assert asked([], "1", "heads=0,2") == {"alone": (1,), "heads": (0, 2)}
    with pytest.raises(LookupError, match="--seeds other=0,1: table 'other' is not among those requested: heads"):
        asked(["heads"], "other=0,1")
    with pytest.raises(LookupError, match="scale demo has no table nothing: its tables are alone, heads"):
        asked(["nothing"])
    with pytest.raises(LookupError, match=r"no scale 'large' in ablations/: choose one of demo, paper"):
        ablations.parse_seeds(root, "large", [], [])


def test_a_profile_builds_on_another_and_says_what_is_different(root: Path) -> None:
    longer = {"base": "demo", "tables": ["alone", "heads"], "all": {"schedule": {"epochs": 18}}}
    longest = {"base": "longer", "all": {"schedule": {"epochs": 54}}, "synthetic": {"demo_ms1mv2": {"train": {"a": 1}}}}
    write(root, {"ablations/longer.yaml": longer, "ablations/longest.yaml": longest})
    assert ablations.tables(root, "longest") == ["alone", "heads"]
    below, above = (ablations.params(root, Ablations(name, {"heads": (0,)})) for name in ("demo", "longest"))
    assert above["profile"] == "demo"
    assert above["synthetic"] == {"demo_ms1mv2": {"seed": 1, "train": {"a": 1}}}
    for name, run in below["runs"].items():
        assert above["runs"][name] == {**run, "schedule": {"epochs": 54}}, "what holds `at` demo holds here too"
    assert above["runs"]["arc_r50_ms1mv2"]["head"]["scale"] == 32
    write(root, {"ablations/demo.yaml": {**DEMO, "base": "longest"}})
    with pytest.raises(ValueError, match=r"ablations/demo.yaml and its base longest build on each other"):
        ablations.lineage(root, "longest")
    write(root, {"ablations/longest.yaml": {"base": "shorter"}})
    with pytest.raises(LookupError, match=r"no scale 'shorter' in ablations/: choose one of demo, longer, longest, paper"):
        ablations.lineage(root, "longest")


def test_what_is_missing_is_said_with_what_there_is(root: Path) -> None:
    def asked(profile: str = "demo") -> dict[str, Any]:
        return ablations.params(root, Ablations(profile, {"heads": (0,)}))

    with pytest.raises(LookupError, match=r"scale paper trains on ms1mv2: give folders under `datasets` in params.yaml"):
        asked("paper")
    project = yaml.safe_load((root / "params.yaml").read_text())
    write(root, {"params.yaml": {**project, "datasets": {"ms1mv2": {"root": "away"}}}})
    with pytest.raises(LookupError, match=r"data set ms1mv2 should be at .*away, which does not exist"):
        asked("paper")
    write(root, {"ablations/demo.yaml": {**DEMO, "nets": {"r18": {}}}})
    with pytest.raises(LookupError, match=r"arc_r50_ms1mv2: no 'r50' under `nets` of ablations/demo.yaml: there are r18"):
        asked()
    write(root, {"ablations/demo.yaml": {**DEMO, "net": {}}})
    with pytest.raises(ValueError, match="unknown net; allowed: all, base"):
        asked()
    write(root, {"ablations/demo.yaml": DEMO, "ablations/runs.yaml": {"other": {}}})
    with pytest.raises(LookupError, match=r"tables/heads.yaml, row arc: no run 'arc_r50_ms1mv2' in .*: there are other"):
        asked()


def prepared(path: Path, api_url: str) -> Dummy:
    project = dummy.make(path, runs=1, api_url=api_url)
    graph = yaml.safe_load((path / "dvc.yaml").read_text())
    graph["stages"]["tabulate"]["do"]["deps"] = ["results/arc_r50_ms1mv2/hq.json"]
    trees = {"ablations/runs.yaml": RUNS, "ablations/demo.yaml": DEMO, "tables/heads.yaml": HEADS, "dvc.yaml": graph}
    write(path, trees)
    return project


@pytest.mark.slow
def test_the_tables_run_beside_the_project_and_go_on_where_they_were(tmp_path: Path, api_url: str) -> None:
    project = prepared(tmp_path / "project", api_url)
    before = (project.path / "params.yaml").read_text()
    shown = yaml.safe_load(project.facet("ablations", "--show").stdout)
    assert set(shown["runs"]) == set(RUNS)
    command = ("ablations", "heads", "--jobs", "2", "--no-track", "--seeds")
    said = project.facet(*command, "0").stdout
    assert "1 tables, 2 rows, 2 training runs, scale demo" in said
    workspace = project.path / ".facet/ablations/demo"
    project.facet(*command, "0,1")
    lines = (workspace / "journal.jsonl").read_text().splitlines()
    done = Counter(one["stage"] for one in map(json.loads, lines) if one["what"] == "start")
    # the dummy's `resolve` always changes what the others depend on, but not their parameters
    assert done["train_backbone@arc_r50_ms1mv2"] == done["evaluate_hq@ada_r50_ms1mv2"] == 1
    assert done["train_backbone@ada_r50_ms1mv2_s1"] == 1
    assert "nothing to do" in project.facet(*command, "0,1").stdout
    assert (project.path / "params.yaml").read_text() == before
    assert not (project.path / "journal.jsonl").exists()
