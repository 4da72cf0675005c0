"""`facet run --set ... --seeds ...` on a real DVC project whose measurements follow from its parameters."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import sweep
from pipeline.sweep import Setting, Variant
from tests.pipeline import dummy
from tests.pipeline.dummy import Dummy, wait_until_dead

MEASURE = """\
    if kind == "evaluate_hq":
        train = yaml.safe_load(open(f"resolved/runs/{key}.yaml"))["train"]
        text = json.dumps({"lfw": 0.9 + train["margin"] / 10 + train.get("seed", 0) / 100})
    if path.suffix:
"""
TABLE = {"title": "Heads", "source": "none", "columns": [{"name": "LFW", "metric": "hq.lfw"}]}
SWEEP = ("run", "--jobs", "2", "--set", "runs.r1.margin=0.3,0.5", "--seeds", "0..2")


def make(path: Path, api_url: str | None = None) -> Dummy:
    project = dummy.make(path, runs=2, api_url=api_url)
    program = project.path / "work.py"
    program.write_text(program.read_text().replace("    if path.suffix:\n", MEASURE))
    (project.path / "tables").mkdir()
    (project.path / "tables/heads.yaml").write_text(yaml.safe_dump(TABLE, sort_keys=False))
    text = (project.path / "params.yaml").read_text()
    (project.path / "params.yaml").write_text(f"# a comment that stays\n{text}")
    return project


def workspace(project: Dummy) -> Path:
    (found,) = (project.path / ".facet/sweeps").glob("r1-*")
    return found


def counts(*folders: Path) -> Counter[str]:
    """How often each stage began, in all workspaces."""
    lines = [line for folder in folders for line in (folder / "journal.jsonl").read_text().splitlines()]
    return Counter(entry["stage"] for entry in map(json.loads, lines) if entry["what"] == "start")


def records(project: Dummy) -> dict[str, dict[str, Any]]:
    """MLflow's runs of sweeps by name: tags, params, metrics."""
    found: dict[str, dict[str, Any]] = {}
    with sqlite3.connect(f"file:{project.path}/tracking/mlflow.db?mode=ro", uri=True) as store:
        runs = store.execute("select run_uuid, name from runs where lifecycle_stage = 'active'").fetchall()
        for run, name in runs:
            assert name not in found
            found[name] = {
                table: dict(store.execute(f"select key, value from {table} where run_uuid = ?", (run,)).fetchall())
                for table in ("tags", "params", "latest_metrics")
            }
    store.close()
    return found


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, api_url: str, server_root: Path) -> tuple[Dummy, str]:
    """A project after a sweep, and what the sweep printed; MLflow's database is made, as after `facet up`."""
    project = make(tmp_path_factory.mktemp("swept") / "project", api_url)
    shutil.copytree(server_root / "tracking", project.path / "tracking", dirs_exist_ok=True)
    (project.path / "tracking/store.json").unlink()
    before = (project.path / "params.yaml").read_text()
    said = project.facet(*SWEEP).stdout
    assert (project.path / "params.yaml").read_text() == before
    return project, said


@pytest.mark.slow
def test_a_sweep_trains_each_value_with_each_seed_and_shows_mean_and_spread(swept: tuple[Dummy, str]) -> None:
    project, said = swept
    done = counts(workspace(project))
    assert {name: count for name, count in done.items() if name.startswith("train_backbone")} == {
        f"train_backbone@r1_margin_0p{margin}_seed_{seed}": 1 for margin in (3, 5) for seed in (0, 1, 2)
    }
    assert done["unpack"] == 1
    # lfw = 0.9 + margin / 10 + seed / 100
    assert "| margin | seeds | LFW |" in said
    assert "| 0.3 | 3 | 94.00 ± 1.00 |" in said
    assert "| 0.5 | 3 | **96.00** ± 1.00 |" in said
    rows = list(csv.DictReader((workspace(project) / "results/spread/table.csv").read_text().splitlines()))
    assert [(row["margin"], row["seed"]) for row in rows] == [(m, s) for m in ("0.3", "0.5") for s in "012"]
    assert float(rows[4]["LFW"]) == pytest.approx(96.0)


@pytest.mark.slow
def test_the_project_itself_is_as_it_was(swept: tuple[Dummy, str]) -> None:
    project, _ = swept
    assert not (project.path / "journal.jsonl").exists()
    assert project.lock_entries() == set()
    assert not (project.path / "results").exists()


@pytest.mark.slow
def test_mlflow_has_a_run_a_variant_with_its_spread_and_one_a_training(swept: tuple[Dummy, str]) -> None:
    found = records(swept[0])
    variant = found["r1 margin=0.5"]
    assert variant["params"] == {"margin": "0.5", "seeds": "3"}
    assert variant["latest_metrics"] == {
        "LFW": pytest.approx(96), "LFW.std": pytest.approx(1),
        "LFW.min": pytest.approx(95), "LFW.max": pytest.approx(97),
    }  # fmt: skip
    assert found["r1_margin_0p3_seed_2"]["params"] == {"margin": "0.3", "seed": "2"}
    assert len(found) == 2 + 6


@pytest.mark.slow
def test_the_same_sweep_again_costs_nothing_and_records_nothing_twice(swept: tuple[Dummy, str]) -> None:
    project, _ = swept
    before = counts(workspace(project))
    again = project.facet(*SWEEP).stdout
    assert "nothing to do" in again
    assert "| 0.5 | 3 | **96.00** ± 1.00 |" in again
    assert counts(workspace(project)) == before
    assert len(records(project)) == 8


@pytest.mark.slow
def test_another_sweep_runs_only_what_is_new_and_saved_rows_are_restored(swept: tuple[Dummy, str]) -> None:
    project, _ = swept
    first = workspace(project)
    said = project.facet(
        "run", "--set", "runs.r1.margin=0.5,0.7", "--seeds", "1..3", "--no-track", "--save", "margins"
    ).stdout
    assert "restored" in said
    (other,) = set((project.path / ".facet/sweeps").glob("r1-*")) - {first}
    trained = {name for name in counts(other) if name.startswith("train_backbone")}
    assert trained == {
        "train_backbone@r1_margin_0p5_seed_3",
        *(f"train_backbone@r1_margin_0p7_seed_{seed}" for seed in (1, 2, 3)),
    }
    assert "params.yaml has 6 new runs" in said
    text = (project.path / "params.yaml").read_text()
    assert text.startswith("# a comment that stays\n")
    tree = yaml.safe_load(text)
    assert tree["runs"]["r1_margin_0p7_seed_2"] == {"margin": 0.7, "seed": 2}
    assert tree["rows"]["margins-r1_margin_0p7_seed_2"] == {"table": "margins", "run": "r1_margin_0p7_seed_2"}
    project.facet("run", "evaluate_hq@r1_margin_0p7_seed_2", "--no-track")
    assert project.counts() == {"resolve": 1}  # all else came from the cache
    shutil.rmtree(other)


@pytest.mark.slow
def test_an_interrupted_sweep_goes_on_and_two_at_once_do_everything_once(tmp_path: Path, api_url: str) -> None:
    project = make(tmp_path / "project", api_url)
    project.slow_down(train_backbone=60)
    first = project.start(*SWEEP, "--no-track")
    try:
        pids = [wait_for_training(project) for _ in range(1)]
        first.send_signal(signal.SIGINT)
        assert first.wait(timeout=60) == 130, project.output()
        for pid in pids:
            wait_until_dead(pid)
    finally:
        project.stop(first)
    folder = workspace(project)
    (folder / "journal.jsonl").unlink()
    project.slow_down(train_backbone=0.5)
    both = [project.start(*SWEEP, "--no-track") for _ in range(2)]
    try:
        assert [one.wait(timeout=120) for one in both] == [0, 0], project.output()
    finally:
        for one in both:
            project.stop(one)
    assert workspace(project) == folder
    trained = {name: n for name, n in counts(folder).items() if name.startswith("train_backbone")}
    assert set(trained.values()) == {1}
    assert len(trained) == 6


def wait_for_training(project: Dummy) -> int:
    found: list[int] = []

    def look() -> bool:
        for path in (project.path / ".facet/sweeps").glob("*/journal.jsonl"):
            for line in path.read_text().splitlines():
                entry = json.loads(line)
                if entry["stage"].startswith("train_backbone"):
                    found.append(int(entry["pid"]))
        return bool(found)

    dummy.wait_until(look)
    return found[0]


def test_what_cannot_be_understood_is_refused_in_one_sentence(tmp_path: Path) -> None:
    project = make(tmp_path / "project")
    for arguments, message in (
        (["--set", "head.margin=0.3"], "--set wants runs.NAME.PATH=VALUE"),
        (["--set", "runs.x.margin=0.3"], "no such run: there are r0, r1"),
        (["--set", "runs.r0.margin=0.3,0.3"], "says a value twice"),
        (["--set", "runs.r0.margin=0.3,"], "a value is missing"),
        (["--set", "runs.r0.margin.deep=1"], "margin is no section"),
        (["--seeds", "4..0"], "says no seed"),
        (["--seeds", "a"], "--seeds wants 0..4"),
        (["nothing", "--seeds", "0..1"], "'nothing' is neither"),
        (["--seeds", "0..1", "--columns", "none"], "there is no table 'none': there are heads"),
        (["--save", "margins"], "--columns and --save belong to a sweep"),
    ):
        answer = project.facet("run", *arguments, code=2)
        assert answer.stderr.count("\n") == 1
        assert message in answer.stderr, answer.stderr


def test_patterns_and_several_settings_give_every_combination() -> None:
    settings = [Setting("*", "margin", (0.1, 0.2)), Setting("b", "scale", (8, 16))]
    found = sweep.variants(["a", "b"], settings, [None])
    assert [(one.base, dict(one.settings)) for one in found] == [
        ("a", {"margin": 0.1}),
        ("a", {"margin": 0.2}),
        ("b", {"margin": 0.1, "scale": 8}),
        ("b", {"margin": 0.1, "scale": 16}),
        ("b", {"margin": 0.2, "scale": 8}),
        ("b", {"margin": 0.2, "scale": 16}),
    ]
    assert sweep.variants(["a"], [], [0, 1]) == [Variant("a", {}, {"a_seed_0": 0, "a_seed_1": 1})]


@pytest.mark.parametrize(
    "value", ["a b", "", -0.5, 1e-7, True, [1, 2], {"name": "x"}, "m5", "0p5", "x" * 90], ids=repr
)
def test_names_fit_and_different_values_have_different_names(value: Any) -> None:
    name = sweep.name_of("arcface", {"head.margin": value}, 3)
    assert len(name) <= 60
    assert name.replace("_", "").isalnum()
    assert name == name.lower()
    others = [0.5, -5, 5, "a", "true", 1, "p"]
    assert name not in {sweep.name_of("arcface", {"head.margin": other}, 3) for other in others}


def test_many_trainings_are_refused() -> None:
    with pytest.raises(ValueError, match="more than 1000 trainings"):
        sweep.variants(["a"], [Setting("a", "m", tuple(range(101)))], list(range(10)))

