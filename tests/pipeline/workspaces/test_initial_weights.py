"""Generated params.yaml of sweeps and of the papers' tables: runs that start from another model have it there."""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml

from pipeline.workspaces import ablations, initial_weights, save_sweep, sweeps
from pipeline.workspaces.ablations import Ablations
from pipeline.workspaces.sweep_grid import Variant
from pipeline.workspaces.sweeps import Sweep
from stages.config import params
from tests.support import ROOT

RUNS = {
    "base": {"dataset": "demo", "head": {"name": "softmax"}},
    "tuned": {"dataset": "demo", "head": {"name": "softmax"}, "initial": {"model": "base"}},
    "again": {"dataset": "demo", "head": {"name": "softmax"}, "initial": {"model": "tuned", "head": "keep"}},
    "published": {"dataset": "demo", "head": {"name": "softmax"}, "initial": {"model": "ir101"}},
}
COLUMN = {"name": "LFW", "metric": "hq.lfw"}


def sweep(base: str) -> Sweep:
    own = {**RUNS[base], "head": {"name": "cosface"}}
    return Sweep("heads", [Variant(base, {"head.name": "cosface"}, {f"{base}_c": 0}, {f"{base}_c": own})], [COLUMN])


def test_the_runs_that_a_run_starts_from_come_along_and_imported_models_do_not():
    assert set(initial_weights.with_models({"x": RUNS["again"]}, RUNS.get)) == {"x", "tuned", "base"}
    assert set(initial_weights.with_models({"x": RUNS["published"]}, RUNS.get)) == {"x"}
    circle = {"a": {"initial": {"model": "b"}}, "b": {"initial": {"model": "a"}}}
    assert set(initial_weights.with_models({"a": circle["a"]}, circle.get)) == {"a", "b"}


def test_a_sweep_has_the_model_that_its_runs_start_from(tmp_path: Path):
    tree = {"runs": RUNS, "initial": {"tuned": {"folder": "runs/base/backbone"}}}
    made = sweeps.params(tmp_path, tree, sweep("tuned"))
    assert set(made["runs"]) == {"tuned_c", "base"}
    assert made["initial"] == {"tuned_c": {"folder": "runs/base/backbone"}}
    made = sweeps.params(tmp_path, tree, sweep("published"))
    # the folder of the project, since a workspace has none
    assert made["initial"] == {"published_c": {"folder": f"{tmp_path}/models/ir101"}}
    assert sweeps.params(tmp_path, tree, sweep("base"))["initial"] == {}


def test_a_saved_sweep_names_the_folders_of_its_new_runs(tmp_path: Path):
    (tmp_path / "tables").mkdir()
    written = {"runs": RUNS, "rows": {}, "tables": {}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(written))
    assert save_sweep.save(tmp_path, sweep("tuned"), "heads") == 1
    assert yaml.safe_load((tmp_path / "params.yaml").read_text())["initial"] == {"tuned_c": {"folder": "runs/base/backbone"}}
    save_sweep.save(tmp_path, sweep("published"), "more")
    assert yaml.safe_load((tmp_path / "params.yaml").read_text())["initial"]["published_c"] == {"folder": "models/ir101"}


def test_a_table_of_the_papers_trains_the_model_that_a_row_starts_from(tmp_path: Path):
    described = {
        "scratch": {"data": "low", "head": {"name": "softmax"}},
        "tuned": {"data": "low", "head": {"name": "softmax"}, "initial": {"model": "clean"}},
        "clean": {"data": "high", "head": {"name": "softmax"}},
    }
    rows = {name: {"label": name, "run": name} for name in ("scratch", "tuned")}
    files = {
        "ablations/runs.yaml": described,
        "ablations/demo.yaml": {"data": {"low": "a", "high": "b"}, "synthetic": {"a": {}, "b": {}, "c": {}}},
        "tables/tuning.yaml": {"rows": rows},
        "params.yaml": {"profile": "demo", "runs": {}, "rows": {}, "tables": {}, "initial": {"x": {"folder": "y"}}},
        "profiles/demo.yaml": {"defaults": {"seed": 0}},
    }
    for name, tree in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(yaml.safe_dump(tree))
    made = ablations.params(tmp_path, Ablations("demo", {"tuning": (0, 1)}))
    assert set(made["runs"]) == {"scratch", "scratch_s1", "tuned", "tuned_s1", "clean"}
    assert made["initial"] == {name: {"folder": "runs/clean/backbone"} for name in ("tuned", "tuned_s1")}
    assert set(made["rows"]) == {"tuning-scratch", "tuning-scratch-1", "tuning-tuned", "tuning-tuned-1"}
    assert set(made["synthetic"]) == {"a", "b"}


def test_the_rows_of_the_fine_tuning_table_differ_in_what_they_start_from_alone(tmp_path: Path):
    for name in ("ablations", "profiles", "tables"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    assert ablations.tables(tmp_path, "fine_tuning") == ["fine_tuning"]
    assert "fine_tuning" not in ablations.tables(tmp_path, "demo")  # whose runs are the papers'
    made = ablations.params(tmp_path, Ablations("fine_tuning", {"fine_tuning": (0, 1)}))
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(made))
    loaded = params.load(tmp_path)
    runs = {name: run.train for name, run in loaded.runs.items() if not name.endswith("_s1")}
    first = runs.pop("ft_first")
    assert (first.dataset, first.initial) == ("ft_clean", None)
    plain = [run.model_copy(update={"initial": None}) for run in runs.values()]
    assert len(plain) == len(loaded.tables["fine_tuning"].rows) == 5
    assert all(run == plain[0] for run in plain)
    assert plain[0].dataset == "ft_low"
    assert {run.initial.model for run in runs.values() if run.initial} == {"ft_first"}
    evaluate = loaded.runs["ft_tuned"].evaluate
    for column in loaded.tables["fine_tuning"].columns:
        suite, _, metric = column.metric.partition(".")
        assert any(metric.startswith(name) for name in getattr(evaluate, suite).sets), column.metric
