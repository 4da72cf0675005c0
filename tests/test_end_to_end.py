"""The whole graph through plain DVC, in a real repository, on a tiny embedded data set."""

from __future__ import annotations

import ast
import json
import re

import pytest

from tests import deps
from tests.support import ROOT, Project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

RAN = re.compile(r"^Running stage '(?:[^':]*:)?([^']+)'", re.MULTILINE)
RUNS = ("arcface", "cosface", "adaface")
SUITES = ("hq", "ijb", "lq", "fiqa")


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


def test_a_second_dvc_repro_does_nothing(reproduced: Project):
    assert RAN.findall(reproduced.run("dvc", "repro")) == []
    assert "up to date" in reproduced.run("dvc", "status")


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


def test_changing_one_margin_reruns_that_run_only_and_changing_it_back_costs_nothing(reproduced: Project):
    reproduced.edit("params.yaml", {"runs": {"cosface": {"head": {"margin": 0.2}}}})
    ran = RAN.findall(reproduced.run("dvc", "repro"))
    assert set(ran) == {
        "resolve", "train_backbone@cosface", "train_quality@cosface", *(f"evaluate_{suite}@cosface" for suite in SUITES),
        "row@heads-cosface", "tabulate@heads", "report", "track",
    }
    reproduced.edit("params.yaml", {"runs": {"cosface": {"head": {"margin": 0.35}}}})
    restored = RAN.findall(reproduced.run("dvc", "repro"))
    assert set(restored) <= {"resolve", "track"}, "restored from the run cache; only the record is made again"


def test_metrics_params_and_plots_show_what_dvc_users_expect(reproduced: Project):
    reproduced.run("git", "add", "-A")
    reproduced.run("git", "commit", "-qm", "results")
    reproduced.edit("params.yaml", {"runs": {"arcface": {"head": {"margin": 0.3}}}})
    reproduced.run("dvc", "repro", "tabulate@heads")
    assert "runs.arcface.head.margin" in reproduced.run("dvc", "params", "diff")
    assert "results/arcface/train.json" in reproduced.run("dvc", "metrics", "diff")
    assert "results/arcface/hq.json" in reproduced.run("dvc", "metrics", "show")
    assert "file://" in reproduced.run("dvc", "plots", "show")
    page = (reproduced.path / "dvc_plots/index.html").read_text()
    assert all(f'"{name}"' in page for name in ("ROC", "DET", "CMC", "EDC"))
    assert '"filename": "arcface/hq/roc.csv"' in page
    reproduced.run("git", "checkout", "-q", "params.yaml")
    reproduced.run("dvc", "repro")


def test_dvc_exp_run_sets_a_parameter(reproduced: Project):
    printed = reproduced.run("dvc", "exp", "run", "-S", "runs.arcface.head.margin=0.45", "tabulate@heads")
    assert "train_backbone@arcface" in printed
    assert "train_backbone@cosface" not in RAN.findall(printed)
    model = json.loads((reproduced.path / "runs/arcface/backbone/model.json").read_text())
    assert model["head"]["margin"] == 0.45
    reproduced.run("git", "checkout", "-q", "params.yaml")
    reproduced.run("dvc", "repro")


def test_a_mistake_in_params_stops_before_anything_runs_and_loses_nothing(reproduced: Project):
    before = (reproduced.path / "results/tables/heads/report/table.csv").read_bytes()
    reproduced.edit("params.yaml", {"runs": {"arcface": {"head": {"margin": 9}}}})
    printed = reproduced.run("dvc", "repro", check=False)
    assert "error: params.yaml, runs.arcface" in printed
    assert RAN.findall(printed) == ["resolve"]
    assert (reproduced.path / "results/tables/heads/report/table.csv").read_bytes() == before
    reproduced.edit("params.yaml", {"runs": {"arcface": {"head": {"margin": 0.5}}}})
    reproduced.run("dvc", "repro")
