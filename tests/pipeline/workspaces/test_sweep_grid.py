"""`facet run --set ... --seeds ...` on a real DVC project whose measurements follow from its parameters."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.cli import sweep
from pipeline.workspaces import seeds, sweep_grid, sweeps
from pipeline.workspaces.sweep_grid import Setting, Variant
from stages.protocols import averages
from tests.pipeline import dummy
from tests.pipeline.dummy import Dummy, wait_until_dead
from tests.support import ROOT

# writes what our own stages `row` and `tabulate`, and the tracker, read
MEASURE = """\
    train = yaml.safe_load(open(f"resolved/runs/{key}.yaml"))["train"] if path.parts[0] in ("results", "runs") else {}
    text = json.dumps({"loss": 0.5, "weights_sha256": key})
    if path.name == "hq.json":
        text = json.dumps({"lfw": 0.9 + train["margin"] / 10 + train["seed"] / 100, "weights_sha256": key})
    if path.suffix == ".csv":
        text = "epoch,loss\\n1,0.5\\n" if path.name == "train.csv" else "set,far,tar,fnmr\\n"
    if path.name == "details.json":
        text = json.dumps({"protocol": {}, "switches": {}, "sets": {}})
    if path.suffix:
"""
RESOLVE = """\
if kind == "resolve":
    from stages.config.table import Table
    for name in params["tables"]:
        measured = {}
        for row, said in params["rows"].items():
            if said["table"] == name:
                measured.setdefault(row.split("-")[1], {})[row] = said["run"]
        table = Table.model_validate(yaml.safe_load(open(f"tables/{name}.yaml"))).model_dump(mode="json")
        path = pathlib.Path("resolved/tables", f"{name}.yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump({"table": table, "scale": {"profile": "demo"}, "measured": measured}))
"""
GRAPH = {
    "row": {"foreach": "${rows}", "do": {
        "cmd": "python -m stages.row ${key} ${item.run}",
        "params": [{"resolved/runs/${item.run}.yaml": ["train"]}],
        # of `lq` and `quality`, which this project does not measure, a sweep over a column of `hq` wants nothing
        "deps": [f"results/${{item.run}}/{name}" for name in (
            "train.json", "quality.json", "hq.json", "hq/details.json", "hq/roc.csv", "lq.json", "lq/details.json")],
        "outs": ["results/tables/${item.table}/rows/${key}.json"],
    }},
    "tabulate": {"foreach": "${tables}", "do": {
        "cmd": "python -m stages.tabulate ${key}",
        "params": [{"resolved/tables/${key}.yaml": ["table", "scale", "measured"]}],
        "deps": ["results/tables/${key}/rows"],
        "outs": ["results/tables/${key}/report"],
    }},
}  # fmt: skip
TABLE = {
    "title": "Heads", "source": "none", "columns": [{"name": "LFW", "metric": "hq.lfw"}],
    "rows": {"r1": {"label": "R1", "run": "r1"}},
}  # fmt: skip
# rows, the same for each seed, trainings, the report
MADE = 2 + 6 + 6 + 1
SWEEP = ("run", "--jobs", "2", "--set", "runs.r1.margin=0.3,0.5", "--seeds", "0..2")


def make(path: Path, api_url: str | None = None) -> Dummy:
    project = dummy.make(path, runs=2, api_url=api_url)
    program = project.path / "work.py"
    text = program.read_text().replace("    if path.suffix:\n", MEASURE).replace("for out in outs:\n", f"{RESOLVE}for out in outs:\n")
    program.write_text(text.replace('{"train": section}', '{"train": {"seed": 0, **section}}'))
    (project.path / "tables").mkdir()
    (project.path / "tables/heads.yaml").write_text(yaml.safe_dump(TABLE, sort_keys=False))
    graph = yaml.safe_load((path / "dvc.yaml").read_text())
    graph["stages"] |= GRAPH
    (path / "dvc.yaml").write_text(yaml.safe_dump(graph, sort_keys=False))
    more(path / "graph/train_backbone/dvc.yaml", "train.json", "train.csv")
    more(path / "graph/evaluate_hq/dvc.yaml", "hq/details.json", "hq/roc.csv")
    project.write_params({**project.params(), "rows": {"heads-r1": {"table": "heads", "run": "r1"}}, "tables": {"heads": {}}})
    params = (project.path / "params.yaml").read_text()
    (project.path / "params.yaml").write_text(f"# a comment that stays\n{params}")
    return project


def more(path: Path, *names: str) -> None:
    """Have the stage of a graph's file write more results."""
    graph = yaml.safe_load(path.read_text())
    (stage,) = graph["stages"].values()
    outs = [f"results/${{key}}/{name}" for name in names]
    stage["do"]["cmd"] += "".join(f" {out}" for out in outs)
    stage["do"]["metrics"] = [*stage["do"].get("metrics", []), *({out: {"cache": False}} for out in outs)]
    path.write_text(yaml.safe_dump(graph, sort_keys=False))


def workspace(project: Dummy) -> Path:
    (found,) = (project.path / ".facet/sweeps").glob("r1_*")
    return found


def workspace_of(project: Dummy, run: str) -> Path:
    """The workspace of the sweep that trains a run as it stands."""
    paths = (project.path / ".facet/sweeps").glob("*/params.yaml")
    (found,) = [path.parent for path in paths if run in yaml.safe_load(path.read_text())["runs"]]
    return found


def counts(*folders: Path) -> Counter[str]:
    """How often each stage began, in all workspaces."""
    journals = [folder / "journal.jsonl" for folder in folders]
    lines = [line for path in journals if path.exists() for line in path.read_text().splitlines()]
    return Counter(entry["stage"] for entry in map(json.loads, lines) if entry["what"] == "start")


def records(project: Dummy) -> dict[tuple[str, str], dict[str, Any]]:
    """MLflow's runs by the end of their experiment's key and name: tags, params, metrics."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    ask = """select run_uuid, r.name, t.value from runs r join experiment_tags t on t.experiment_id = r.experiment_id
             where r.lifecycle_stage = 'active' and t.key = 'facet.key'"""
    with sqlite3.connect(f"file:{project.path}/tracking/mlflow.db?mode=ro", uri=True) as store:
        for run, name, key in store.execute(ask).fetchall():
            kind = key.rpartition(".")[2]
            assert (kind, name) not in found
            found[kind, name] = {
                table: dict(store.execute(f"select key, value from {table} where run_uuid = ?", (run,)).fetchall())
                for table in ("tags", "params", "latest_metrics")
            }
    store.close()
    return found


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, api_url: str, server_root: Path) -> tuple[Dummy, str, set[Path]]:
    """A project after a sweep, what the sweep printed and what it left; MLflow's database is made, as after `facet up`."""
    project = make(tmp_path_factory.mktemp("swept") / "project", api_url)
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
    done = counts(workspace(project))
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
    name = workspace(project).name
    assert sorted(path.name for path in (workspace(project) / f"results/tables/{name}/report").glob("table.*")) == [
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
    found = records(swept[0])
    variant = found[workspace(swept[0]).name, "r1 margin=0.5"]
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
    before = counts(workspace(project))
    again = project.facet(*SWEEP).stdout
    assert "nothing to do" in again
    assert "| **r1 margin=0.5** | measured | **96.00** ± 1.00 |" in again
    assert counts(workspace(project)) == before
    assert len(records(project)) == MADE


@pytest.mark.slow
def test_a_sweep_over_seeds_trains_those_alone_that_the_run_itself_has_not(tmp_path: Path, api_url: str) -> None:
    project = make(tmp_path / "project", api_url)
    project.facet("run", "evaluate_hq@r1", "--no-track")
    said = project.facet("run", "r1", "--seeds", "0..1", "--no-track").stdout
    done = counts(workspace(project))
    assert [name for name in done if name.startswith(("train", "evaluate"))] == [
        "train_backbone@r1_s1", "evaluate_hq@r1_s1"
    ]  # fmt: skip
    # lfw = 0.9 + 0.1 / 10 + seed / 100, in the mean over both
    assert "| **r1** | measured | 91.50 ± 0.71 |" in said
    project.facet("run", "--set", "runs.r1.margin=0.3", "--no-track")
    (other,) = {*(project.path / ".facet/sweeps").glob("r1_*")} - {workspace_of(project, "r1")}
    project.facet("run", "--set", "runs.r1.margin=0.3", "--seeds", "0..1", "--no-track")
    (third,) = {*(project.path / ".facet/sweeps").glob("r1_*")} - {other, workspace_of(project, "r1")}
    assert [name for name in counts(third) if name.startswith("train")] == ["train_backbone@r1_margin_0p3_s1"]


@pytest.mark.slow
def test_another_sweep_runs_only_what_is_new_and_saved_rows_are_restored(swept: tuple[Dummy, str, set[Path]]) -> None:
    project, _, _ = swept
    before = files(project)
    first = workspace(project)
    said = project.facet(
        "run", "--set", "runs.r1.margin=0.5,0.7", "--seeds", "1..3", "--no-track", "--save", "margins"
    ).stdout
    assert "restored" in said
    (other,) = set((project.path / ".facet/sweeps").glob("r1_*")) - {first}
    trained = {name for name in counts(other) if name.startswith("train_backbone")}
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


@pytest.mark.slow
def test_what_cannot_be_understood_is_refused_in_one_sentence(tmp_path: Path) -> None:
    project = make(tmp_path / "project")
    for arguments, message in (
        (["--set", "head.margin=0.3"], "--set needs runs.NAME.PATH=VALUE"),
        (["--set", "runs.x.margin=0.3"], "no such run: there are r0, r1"),
        (["--set", "runs.r0.margin=0.3,0.3"], "repeats a value"),
        (["--set", "runs.r0.margin=0.3,"], "a value is missing"),
        (["--set", "runs.r0.margin.deep=1"], "margin is not a section but"),
        (["--seeds", "4..0"], "says no seed"),
        (["--seeds", "a"], "--seeds needs 0..4"),
        (["nothing", "--seeds", "0..1"], "got 'nothing': choose from"),
        (["--seeds", "0..1", "--columns", "none"], "--columns: no table 'none': there are heads"),
        (["--save", "margins"], "--columns and --save are for sweeps"),
    ):
        answer = project.facet("run", *arguments, code=2)
        assert answer.stderr.count("\n") == 1
        assert message in answer.stderr, answer.stderr


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
    with pytest.raises(ValueError, match="two trainings would be called a_s8"):
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

