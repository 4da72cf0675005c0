"""The grid of a sweep: its variants, the names and seeds of its runs, and the suites that its columns need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.cli import sweep
from pipeline.workspaces import seeds, sweep_grid, sweeps
from pipeline.workspaces.sweep_grid import Setting, Variant
from stages.protocols import averages
from tests.support import ROOT


def test_patterns_and_several_settings_give_every_combination() -> None:
    settings = [Setting("*", "margin", (0.1, 0.2)), Setting("b", "scale", (8, 16))]
    found = sweep_grid.variants({"a": {}, "b": {}}, settings, [], own_seed)
    assert [(one.base, dict(one.settings)) for one in found] == [
        ("a", {"margin": 0.1}),
        ("a", {"margin": 0.2}),
        ("b", {"margin": 0.1, "scale": 8}),
        ("b", {"margin": 0.1, "scale": 16}),
        ("b", {"margin": 0.2, "scale": 8}),
        ("b", {"margin": 0.2, "scale": 16}),
    ]


def own_seed(run: Mapping[str, Any]) -> int:
    return int(run.get("seed", 0))


def test_a_run_with_its_own_seed_is_the_run_itself() -> None:
    run = {"margin": 0.1, "seed": 7}
    assert sweep_grid.variants({"a": run}, [], [7, 8], own_seed) == [
        Variant("a", {}, {"a": 7, "a_s8": 8}, {"a": run, "a_s8": {"margin": 0.1, "seed": 8}})
    ]
    (varied,) = sweep_grid.variants({"a": run}, [Setting("a", "margin", (0.2,))], [7, 8], own_seed)
    assert dict(varied.runs) == {"a_margin_0p2": 7, "a_margin_0p2_s8": 8}
    with pytest.raises(ValueError, match="two training runs would be called a_s8"):
        sweep_grid.variants({"a": run, "a_s8": run}, [], [7, 8], own_seed)


def test_the_seed_of_a_run_is_its_own_or_its_recipes_or_the_profiles(tmp_path: Path) -> None:
    project = {"profile": "paper", "defaults": {"seed": 4}}
    assert seeds.own(tmp_path, project, {}) == 4
    (tmp_path / "profiles/recipes").mkdir(parents=True)
    (tmp_path / "profiles/paper.yaml").write_text("defaults: {seed: 3}")
    (tmp_path / "profiles/recipes/magface.yaml").write_text("seed: 2")
    assert seeds.own(tmp_path, project, {}) == 3
    assert seeds.own(tmp_path, project, {"recipe": "magface"}) == 2
    assert seeds.own(tmp_path, project, {"recipe": "magface", "seed": 1}) == 1


def test_averages_are_of_the_suites_that_a_sweep_reads_for_them() -> None:
    named = (*averages.HQ_AVG, *averages.OTHERS)
    assert {metric.partition(".")[0] for metric in named} == set(sweeps.COMPUTED["averages"])


@pytest.mark.parametrize(
    ("columns", "suites"),
    [("heads", {"hq", "ijb", "lq", "fiqa"}), ("qgface_ablation", {"hq", "ijb", "lq"}), ("scface", {"lq"})],
)
def test_a_sweep_of_the_repositorys_runs_measures_what_its_columns_name(columns: str, suites: set[str]) -> None:
    asked = sweep.Asked(["runs.adaface.head.m=0.3,0.4"], "0..1", columns, None)
    found = sweep.understand(ROOT, [], asked)
    graph = sweeps.generated(ROOT, found)[f"graph/table-{found.key}/dvc.yaml"]
    row = graph["stages"]["row"]["do"]
    made = {out for path in ROOT.glob("graph/*/dvc.yaml") for out in outs(yaml.safe_load(path.read_text()))}
    read = {dep.replace("${item.run}", "${key}") for dep in row["deps"] if dep.startswith("results/")}
    # some stage writes each file, or a folder that it is in
    assert all(any(dep == out or dep.startswith(f"{out}/") for out in made) for dep in read)
    assert {dep.split("/")[2].removesuffix(".json") for dep in read} == {"train", *suites}
    assert row["cmd"].endswith(f" --suites={','.join(sorted(suites))}")
    assert list(found.runs()) == [
        "adaface_head_margin_0p3", "adaface_head_margin_0p3_s1", "adaface_head_margin_0p4", "adaface_head_margin_0p4_s1"
    ]  # fmt: skip


def outs(graph: Mapping[str, Any]) -> Iterator[str]:
    for stage in graph["stages"].values():
        for kind in ("outs", "metrics", "plots"):
            for out in stage["do"].get(kind, []):
                yield next(iter(out)) if isinstance(out, dict) else out


@pytest.mark.parametrize(
    "value", ["a b", "", -0.5, 1e-7, True, [1, 2], {"name": "x"}, "m5", "0p5", "x" * 90], ids=repr
)
def test_names_fit_and_different_values_have_different_names(value: Any) -> None:
    name = sweep_grid.name_of("arcface", {"head.margin": value})
    assert len(name) <= 60
    assert name.replace("_", "").isalnum()
    assert name == name.lower()
    others = [0.5, -5, 5, "a", "true", 1, "p"]
    assert name not in {sweep_grid.name_of("arcface", {"head.margin": other}) for other in others}


def test_many_trainings_are_refused() -> None:
    with pytest.raises(ValueError, match="more than 1000 training runs"):
        sweep_grid.variants({"a": {}}, [Setting("a", "m", tuple(range(101)))], list(range(10)), own_seed)
