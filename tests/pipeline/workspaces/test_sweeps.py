"""`facet run --set ... --seeds ...` on a real DVC project whose measurements follow from its parameters."""

from __future__ import annotations

import csv
import json
import shutil
import signal
from pathlib import Path

import pytest
import yaml

from tests.pipeline import dummy, sweep_project
from tests.pipeline.dummy import Dummy, wait_until_dead

# rows, the same for each seed, trainings, the report
MADE = 2 + 6 + 6 + 1
SWEEP = ("run", "--jobs", "2", "--set", "runs.r1.margin=0.3,0.5", "--seeds", "0..2")


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, api_url: str, server_root: Path) -> tuple[Dummy, str, set[Path]]:
    """A project after a sweep, what the sweep printed and what it left; MLflow's database is made, as after `facet up`."""
    project = sweep_project.make(tmp_path_factory.mktemp("swept") / "project", api_url)
    shutil.copytree(server_root / "tracking", project.path / "tracking", dirs_exist_ok=True)
    (project.path / "tracking/store.json").unlink()
    before = files(project)
    said = project.facet(*SWEEP).stdout
    after = files(project)
    return project, said, {path for path in before | after if before.get(path) != after.get(path)}


def files(project: Dummy) -> dict[Path, bytes]:
    """Return what a project has, but for the states of git, DVC, facet and MLflow."""
    states = {".git", ".dvc", ".facet", "tracking", "machine"}
    paths = (path.relative_to(project.path) for path in project.path.rglob("*") if path.is_file())
    return {path: (project.path / path).read_bytes() for path in paths if path.parts[0] not in states}


@pytest.mark.slow
def test_a_sweep_trains_each_value_with_each_seed_and_shows_mean_and_spread(swept: tuple[Dummy, str, set[Path]]) -> None:
    project, said, _ = swept
    done = sweep_project.counts(sweep_project.workspace(project))
    assert {name: count for name, count in done.items() if name.startswith("train_backbone")} == {
        f"train_backbone@r1_margin_0p{margin}{seed}": 1 for margin in (3, 5) for seed in ("", "_s1", "_s2")
    }
    assert done["unpack"] == 1
    # lfw = 0.9 + margin / 10 + seed / 100
    assert "| **r1 margin=0.3** | measured | 94.00 ± 1.00 |" in said
    assert "| **r1 margin=0.5** | measured | **96.00** ± 1.00 |" in said


@pytest.mark.slow
def test_the_table_of_a_sweep_is_a_table_like_any_other(swept: tuple[Dummy, str, set[Path]]) -> None:
    project, _, _ = swept
    name = sweep_project.workspace(project).name
    assert sorted(path.name for path in (sweep_project.workspace(project) / f"results/tables/{name}/report").glob("table.*")) == [
        "table.csv", "table.html", "table.json", "table.md", "table.tex"
    ]  # fmt: skip
    rows = list(csv.DictReader(project.facet("table", name, "--format", "csv").stdout.splitlines()))
    assert [(row["margin"], row["LFW"], row["LFW std"], row["LFW seeds"]) for row in rows] == [
        ("0.3", "94.00", "1.00", "3"), ("0.5", "96.00", "1.00", "3")
    ]  # fmt: skip
    (_, row) = json.loads(project.facet("table", name, "--format", "json").stdout)["rows"]
    assert row["cells"]["LFW"]["by_seed"] == {"0": 95.0, "1": 96.0, "2": 97.0}
    page = project.facet("table", name, "--format", "html").stdout
    assert "fingerprint</dt>" in page
    assert "not in dvc.lock" not in page


@pytest.mark.slow
def test_the_project_itself_is_as_it_was(swept: tuple[Dummy, str, set[Path]]) -> None:
    _, _, changed = swept
    assert changed == set()


@pytest.mark.slow
def test_mlflow_has_a_run_a_variant_with_its_spread_and_one_a_training(swept: tuple[Dummy, str, set[Path]]) -> None:
    found = sweep_project.records(swept[0])
    variant = found[sweep_project.workspace(swept[0]).name, "r1 margin=0.5"]
    assert variant["params"] == {"margin": "0.5", "seeds": "0, 1, 2"}
    assert variant["latest_metrics"] == {"LFW": pytest.approx(96), "LFW.std": pytest.approx(1)}
    seed = found["seeds", "r1 margin=0.3, seed 2"]
    assert seed["params"] == {"row": "r1 margin=0.3", "margin": "0.3", "seed": "2"}
    assert seed["latest_metrics"] == {"LFW": pytest.approx(95)}
    training = found["runs", "r1_margin_0p3_s2"]
    assert training["params"].items() >= {"margin": "0.3", "seed": "2"}.items()
    assert training["latest_metrics"]["loss"] == pytest.approx(0.5)
    assert len(found) == MADE


@pytest.mark.slow
def test_the_same_sweep_again_costs_nothing_and_records_nothing_twice(swept: tuple[Dummy, str, set[Path]]) -> None:
    project, _, _ = swept
    before = sweep_project.counts(sweep_project.workspace(project))
    again = project.facet(*SWEEP).stdout
    assert "nothing to do" in again
    assert "| **r1 margin=0.5** | measured | **96.00** ± 1.00 |" in again
    assert sweep_project.counts(sweep_project.workspace(project)) == before
    assert len(sweep_project.records(project)) == MADE


@pytest.mark.slow
def test_a_sweep_over_seeds_trains_those_alone_that_the_run_itself_has_not(tmp_path: Path, api_url: str) -> None:
    project = sweep_project.make(tmp_path / "project", api_url)
    project.facet("run", "evaluate_hq@r1", "--no-track")
    said = project.facet("run", "r1", "--seeds", "0..1", "--no-track").stdout
    done = sweep_project.counts(sweep_project.workspace(project))
    assert [name for name in done if name.startswith(("train", "evaluate"))] == [
        "train_backbone@r1_s1", "evaluate_hq@r1_s1"
    ]  # fmt: skip
    # lfw = 0.9 + 0.1 / 10 + seed / 100, in the mean over both
    assert "| **r1** | measured | 91.50 ± 0.71 |" in said
    project.facet("run", "--set", "runs.r1.margin=0.3", "--no-track")
    (other,) = {*(project.path / ".facet/sweeps").glob("r1_*")} - {sweep_project.workspace_of(project, "r1")}
    project.facet("run", "--set", "runs.r1.margin=0.3", "--seeds", "0..1", "--no-track")
    (third,) = {*(project.path / ".facet/sweeps").glob("r1_*")} - {other, sweep_project.workspace_of(project, "r1")}
    assert [name for name in sweep_project.counts(third) if name.startswith("train")] == ["train_backbone@r1_margin_0p3_s1"]


@pytest.mark.slow
def test_another_sweep_runs_only_what_is_new_and_saved_rows_are_restored(swept: tuple[Dummy, str, set[Path]]) -> None:
    project, _, _ = swept
    before = files(project)
    first = sweep_project.workspace(project)
    said = project.facet(
        "run", "--set", "runs.r1.margin=0.5,0.7", "--seeds", "1..3", "--no-track", "--save", "margins"
    ).stdout
    assert "restored" in said
    (other,) = set((project.path / ".facet/sweeps").glob("r1_*")) - {first}
    trained = {name for name in sweep_project.counts(other) if name.startswith("train_backbone")}
    assert trained == {
        "train_backbone@r1_margin_0p5_s3",
        *(f"train_backbone@r1_margin_0p7_s{seed}" for seed in (1, 2, 3)),
    }
    assert "params.yaml has 6 new runs" in said
    text = (project.path / "params.yaml").read_text()
    assert text.startswith("# a comment that stays\n")
    tree = yaml.safe_load(text)
    assert tree["runs"]["r1_margin_0p7_s2"] == {"margin": 0.7, "seed": 2}
    # the first of the seeds has the row's own name
    assert tree["rows"]["margins-r1_margin_0p7"] == {"table": "margins", "run": "r1_margin_0p7_s1"}
    assert tree["rows"]["margins-r1_margin_0p7-2"] == {"table": "margins", "run": "r1_margin_0p7_s2"}
    saved = yaml.safe_load((project.path / "tables/margins.yaml").read_text())
    assert saved["rows"]["r1_margin_0p7"] == {"label": "r1 margin=0.7", "run": "r1_margin_0p7_s1"}
    project.facet("run", "evaluate_hq@r1_margin_0p7_s2", "--no-track")
    assert project.counts() == {"resolve": 1}  # all else came from the cache
    # as the tests that share the project found it
    shutil.rmtree(other)
    for path in files(project).keys() - before.keys():
        (project.path / path).unlink()
    (project.path / "params.yaml").write_bytes(before[Path("params.yaml")])


@pytest.mark.slow
def test_an_interrupted_sweep_goes_on_and_two_at_once_do_everything_once(tmp_path: Path, api_url: str) -> None:
    project = sweep_project.make(tmp_path / "project", api_url)
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
    folder = sweep_project.workspace(project)
    (folder / "journal.jsonl").unlink()
    project.slow_down(train_backbone=0.5)
    both = [project.start(*SWEEP, "--no-track") for _ in range(2)]
    try:
        assert [one.wait(timeout=120) for one in both] == [0, 0], project.output()
    finally:
        for one in both:
            project.stop(one)
    assert sweep_project.workspace(project) == folder
    trained = {name: n for name, n in sweep_project.counts(folder).items() if name.startswith("train_backbone")}
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


@pytest.mark.slow
def test_what_cannot_be_understood_is_refused_in_one_sentence(tmp_path: Path) -> None:
    project = sweep_project.make(tmp_path / "project")
    for arguments, message in (
        (["--set", "head.margin=0.3"], "--set needs runs.NAME.PATH=VALUE"),
        (["--set", "runs.x.margin=0.3"], "no such run: there are r0, r1"),
        (["--set", "runs.r0.margin=0.3,0.3"], "repeats a value"),
        (["--set", "runs.r0.margin=0.3,"], "a value is missing"),
        (["--set", "runs.r0.margin.deep=1"], "margin is not a section but"),
        (["--seeds", "4..0"], "has no seed"),
        (["--seeds", "a"], "--seeds needs 0..4"),
        (["nothing", "--seeds", "0..1"], "got 'nothing': choose from"),
        (["--seeds", "0..1", "--columns", "none"], "--columns: no table 'none': there are heads"),
        (["--save", "margins"], "--columns and --save are for sweeps"),
    ):
        answer = project.facet("run", *arguments, code=2)
        assert answer.stderr.count("\n") == 1
        assert message in answer.stderr, answer.stderr
