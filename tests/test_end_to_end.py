"""The whole graph through plain DVC, in a real repository, on a tiny synthetic data set.

It is run once from nothing (`reproduced`); who changes anything changes a copy of that.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests import deps
from tests.support import ROOT, Project, copy_project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # as test_prefect_end_to_end.py: both start first

RAN = re.compile(r"^Running stage '(?:[^':]*:)?([^']+)'", re.MULTILINE)
RUNS = ("arcface", "cosface", "adaface")
SUITES = ("hq", "ijb", "lq", "fiqa")
COLUMNS = [column["metric"] for column in yaml.safe_load((ROOT / "tables/heads.yaml").read_text())["columns"]]


def test_dvc_repro_alone_makes_everything(reproduced: Project):
    for run in RUNS:
        assert (reproduced.path / f"runs/{run}/backbone/weights.pt").is_file()
        for suite in SUITES:
            metrics = json.loads((reproduced.path / f"results/{run}/{suite}.json").read_text())
            rates = [value for value in metrics.values() if isinstance(value, float)]
            assert rates, f"{run} {suite} measured nothing"
    report = reproduced.path / "results/tables/heads/report"
    assert {"table.md", "table.csv", "table.json", "table.html"} <= {path.name for path in report.iterdir()}
    assert "AdaFace" in (report / "table.md").read_text()


def test_a_second_dvc_repro_does_nothing(copy_reproduced: Callable[[], Project]):
    project = copy_reproduced()
    assert RAN.findall(project.run("dvc", "repro")) == []
    assert "up to date" in project.run("dvc", "status")


def test_what_a_stage_imports_is_what_its_deps_say(reproduced: Project):
    """Otherwise DVC would call a result fresh whose code has changed, or rerun what an edit cannot touch."""
    found = list(deps.traces(reproduced.path))
    assert len(found) >= 20
    for name, imported, declared in found:
        assert deps.differences(imported, declared) == (set(), set()), f"{name}: `make deps` writes them"


def test_package_files_hold_a_docstring_only_so_that_no_dep_need_name_them():
    for path in (ROOT / "stages").rglob("__init__.py"):
        body = ast.parse(path.read_text()).body
        assert len(body) == 1, path
        assert isinstance(body[0], ast.Expr), path


def test_changing_one_margin_reruns_that_run_only_and_changing_it_back_costs_nothing(
    remargined: tuple[Project, str], empty_store: Path, tmp_path: Path
):
    changed, printed = remargined
    assert set(RAN.findall(printed)) == {
        "resolve", "train_backbone@cosface", "train_quality@cosface", *(f"evaluate_{suite}@cosface" for suite in SUITES),
        "summary@cosface", "row@heads-cosface", "tabulate@heads", "report", "track",
    }
    project = copy_project(changed.path, tmp_path / "project", empty_store)
    project.edit("params.yaml", {"runs": {"cosface": {"head": {"margin": 0.35}}}})
    restored = RAN.findall(project.run("dvc", "repro"))
    assert set(restored) <= {"resolve", "track"}, "restored from the run cache; only the record is made again"


@pytest.fixture(scope="module")
def tried(copy_reproduced: Callable[[], Project]) -> tuple[Project, str]:
    """A project whose results are committed, after an experiment of DVC's with another margin, and what it printed."""
    project = copy_reproduced()
    project.run("git", "add", "-A")
    project.run("git", "commit", "-qm", "results")
    return project, project.run("dvc", "exp", "run", "-S", "runs.arcface.head.margin=0.3", "tabulate@heads")


def test_dvc_exp_run_sets_a_parameter(tried: tuple[Project, str]):
    project, printed = tried
    assert "train_backbone@arcface" in RAN.findall(printed)
    assert "train_backbone@cosface" not in RAN.findall(printed)
    model = json.loads((project.path / "runs/arcface/backbone/model.json").read_text())
    assert model["head"]["margin"] == 0.3


def test_metrics_params_and_plots_show_what_dvc_users_expect(tried: tuple[Project, str]):
    project, _ = tried
    assert "runs.arcface.head.margin" in project.run("dvc", "params", "diff")
    changed = json.loads(project.run("dvc", "metrics", "diff", "--json"))
    assert list(changed) == ["results/arcface/summary.json"]
    assert set(changed["results/arcface/summary.json"]) <= set(COLUMNS)
    # a line per run, with the columns of its table, and the numbers that the suites' files have of these
    title, *lines = project.run("dvc", "metrics", "show").splitlines()
    assert [line.split()[0] for line in lines] == [f"results/{run}/summary.json" for run in RUNS]
    shown = json.loads(project.run("dvc", "metrics", "show", "--json"))[""]["data"]
    for run in RUNS:
        whole = {suite: json.loads((project.path / f"results/{run}/{suite}.json").read_text()) for suite in SUITES}
        values = {f"{suite}.{key}": value for suite, tree in whole.items() for key, value in tree.items()}
        wanted = {column: values[column] for column in COLUMNS if column in values}
        found = shown[f"results/{run}/summary.json"]["data"]
        assert {f"{suite}.{key}": value for suite, tree in found.items() for key, value in tree.items()} == wanted
    assert title.split() == ["Path", *sorted(wanted)]
    assert len(wanted) > 10
    assert "file://" in project.run("dvc", "plots", "show")
    page = (project.path / "dvc_plots/index.html").read_text()
    assert all(f'"{curve} of {run}"' in page for curve in ("ROC", "DET", "CMC", "EDC") for run in RUNS)


def test_a_mistake_in_params_stops_before_anything_runs_and_loses_nothing(copy_reproduced: Callable[[], Project]):
    project = copy_reproduced()
    before = (project.path / "results/tables/heads/report/table.csv").read_bytes()
    project.edit("params.yaml", {"runs": {"arcface": {"head": {"margin": 9}}}})
    printed = project.run("dvc", "repro", check=False)
    assert "error: params.yaml, runs.arcface" in printed
    assert RAN.findall(printed) == ["resolve"]
    assert (project.path / "results/tables/heads/report/table.csv").read_bytes() == before
