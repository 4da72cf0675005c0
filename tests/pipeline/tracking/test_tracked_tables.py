"""What MLflow should hold of a table, and holds after `track`: several seeds, the best model, tables of a workspace."""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.base.workspace import Workspace, of_project
from pipeline.tracking import collect, recorded_ids, store, sync
from pipeline.tracking.desired import Experiment, Scope, Wanted
from tests.fake_results import TABLE
from tests.pipeline import fabricated
from tests.pipeline.tracked import quietly, recorded_runs

PUBLISHED = "published.IJB-B TAR at FAR 1e-4"


@pytest.fixture
def root(tmp_path: Path, empty_store: Path) -> Path:
    """A folder with an empty MLflow."""
    shutil.copytree(empty_store, tmp_path / "tracking")
    facts = {**json.loads((tmp_path / "tracking/store.json").read_text()), "folder": str(tmp_path / "tracking")}
    (tmp_path / "tracking/store.json").write_text(json.dumps(facts))
    return tmp_path


@pytest.fixture
def client(root: Path) -> Iterator[Any]:
    with quietly():
        from mlflow.tracking import MlflowClient

        yield MlflowClient(store.uri(root))


def track(root: Path, **arguments: Any) -> sync.Tracked:
    with quietly():
        return sync.track(root, **arguments)


def by_key(wanted: Wanted) -> dict[str, Experiment]:
    return {experiment.key: experiment for experiment in wanted.experiments}


def report(root: Path) -> Any:
    return json.loads((root / "results/tables/heads/report/table.json").read_text())


def test_a_row_of_several_seeds_is_one_run_with_what_the_report_says(tmp_path: Path):
    fabricated.make(tmp_path, seeds=3)
    table = by_key(collect.collect(tmp_path))["table.heads"]
    assert [record.name for record in table.records] == ["BroadFace", "ArcFace", "CosFace", "AdaFace"]
    said = {row["label"]: row["cells"] for row in report(tmp_path)["rows"]}
    for record in table.records:
        wanted = {}
        for name, cell in said[record.name].items():
            wanted |= {name: cell["measured"], f"{name}.std": cell.get("std"), f"published.{name}": cell["published"]}
        assert record.metrics == {name: value for name, value in wanted.items() if value is not None}
    assert table.records[3].params == {"head.name": "adaface", "head.margin": "0.5", "seeds": "0, 1, 2"}
    assert table.records[3].metrics["LFW.std"] == 0.1
    assert table.look.shown[2:5] == (("params", "seeds"), ("metrics", "LFW"), ("metrics", "LFW.std"))


def test_single_seeds_stand_in_an_experiment_of_their_own(tmp_path: Path):
    fabricated.make(tmp_path, seeds=3)
    found = by_key(collect.collect(tmp_path))
    seeds, table = found["table.heads.seeds"], found["table.heads"]
    assert len(seeds.records) == 9
    assert table.seeds == seeds.key
    ada = [record for record in seeds.records if record.params["row"] == "AdaFace"]
    assert [record.name for record in ada] == [f"AdaFace, seed {seed}" for seed in range(3)]
    values = [record.metrics["LFW"] for record in ada]
    assert len(set(values)) == 3
    mean = table.records[3].metrics["LFW"]
    assert mean == pytest.approx(statistics.mean(values), abs=0.01)
    every = [record.fingerprint for experiment in found.values() for record in experiment.records]
    assert len(set(every)) == len(every), "a fingerprint is one run's"
    stages = [record.tags["facet.stage"] for record in (*table.records, *seeds.records) if "facet.stage" in record.tags]
    assert sorted(stages) == sorted(set(stages)), "links from stages lead to one run each"


def test_with_one_seed_there_is_no_experiment_of_seeds_and_no_spread(tmp_path: Path):
    fabricated.make(tmp_path)
    found = by_key(collect.collect(tmp_path))
    assert found["table.heads.seeds"].records == ()
    assert found["table.heads"].seeds is None
    assert not any(metric.endswith(".std") for record in found["table.heads"].records for metric in record.metrics)
    assert [name for kind, name in found["table.heads"].look.shown if kind == "params"] == ["head.name", "head.margin"]


def test_a_row_whose_second_seed_is_not_done_waits_and_the_others_stand(tmp_path: Path):
    fabricated.make(tmp_path, seeds=2)
    (tmp_path / "results/tables/heads/rows/heads-cosface-1.json").unlink()
    wanted = collect.collect(tmp_path)
    assert [record.name for record in by_key(wanted)["table.heads"].records] == ["BroadFace", "ArcFace", "AdaFace"]
    assert wanted.waiting["heads/CosFace"] == "results/tables/heads/rows/heads-cosface-1.json differs from dvc.lock"


@pytest.mark.parametrize(
    ("primary", "row", "value"),
    [({}, "adaface", "73.0"), ({"primary": "EDC AUC"}, "adaface", "0.0385")],
    ids=["its first column, if it names none", "a column of which less is better"],
)
def test_the_best_model_is_that_of_the_best_row_by_the_tables_primary_column(
    tmp_path: Path, program: Path, primary: dict[str, str], row: str, value: str
):
    fabricated.make(tmp_path, program=program, rows=("arcface", "adaface"), **primary)
    (best,) = collect.collect(tmp_path).best
    assert best.name == "facet-heads"
    assert (best.tags["facet.row"], best.tags["facet.value"]) == (row, value)
    assert best.tags["facet.primary"] == primary.get("primary", "LFW")


def test_a_best_row_whose_model_is_not_here_registers_nothing_and_says_so(tmp_path: Path, program: Path):
    fabricated.make(tmp_path, program=program)
    (tmp_path / "runs/adaface/backbone/program.pt2").unlink()
    wanted = collect.collect(tmp_path)
    assert wanted.best == []
    assert wanted.waiting == {"registered model facet-heads": "the model of heads/AdaFace is not here"}


def test_the_registry_has_a_version_a_model_and_the_alias_follows_the_best(
    root: Path, client: Any, program: Path
):
    for margin, best, versions in ((0.5, "adaface", 1), (0.9, "arcface", 2), (0.5, "adaface", 2)):
        fabricated.make(root, program=program, margin=margin)
        for _ in range(2):
            track(root)
            version = client.get_model_version_by_alias("facet-heads", "best")
            assert version.tags["facet.run"] == best
            assert len(client.search_model_versions("name = 'facet-heads'")) == versions
    assert client.get_run(version.run_id).data.tags["facet.where"] == "heads/AdaFace"
    with quietly():
        import mlflow

        mlflow.set_tracking_uri(store.uri(root))
        try:
            model = mlflow.pyfunc.load_model("models:/facet-heads@best")
        finally:
            mlflow.set_tracking_uri(None)
        answer = model.predict({"image": [np.full((112, 112, 3), 7, np.uint8)]})
    assert model.metadata.signature.inputs.input_names() == ["image"]
    assert np.allclose(np.array(answer["embedding"][0]) * answer["feature_norm"][0], [7, 7, 7, 8])


def test_an_alias_that_somebody_deleted_comes_back(root: Path, client: Any, program: Path):
    fabricated.make(root, program=program, rows=("arcface",))
    track(root)
    client.delete_registered_model_alias("facet-heads", "best")
    assert track(root).created == ()
    assert client.get_model_version_by_alias("facet-heads", "best").version == 1


def test_a_model_is_logged_once_however_many_rows_and_seeds_show_it(root: Path, client: Any, program: Path):
    fabricated.make(root, seeds=2, program=program)
    track(root)
    files = list((root / "tracking/artifacts").rglob("program.pt2"))
    assert len(files) == 6, "three rows, two seeds"
    experiments = {one.tags["facet.key"]: one for one in client.search_experiments() if one.tags.get("facet.key")}
    training = next(
        run for run in client.search_runs([experiments["runs"].experiment_id]) if run.info.run_name == "adaface"
    )
    for key in ("table.heads", "table.heads.seeds"):
        rows = client.search_runs([experiments[key].experiment_id], "tags.`facet.run` = 'adaface'")
        assert {run.data.tags["facet.model"] for run in rows} == {training.data.tags["facet.model"]}
        for row in rows:
            (model,) = client.get_run(row.info.run_id).inputs.model_inputs
            assert training.data.tags["facet.model"] == f"models:/{model.model_id}"


@pytest.mark.parametrize("workspace", [None, "made"])
def test_a_row_that_gets_more_seeds_replaces_the_row_of_one(
    root: Path, client: Any, program: Path, workspace: str | None
):
    at = None if workspace is None else Workspace(root / workspace, root, "ablations", "demo")
    made = at.folder if at else root
    fabricated.make(root, program=program, rows=("arcface",))
    made.mkdir(parents=True, exist_ok=True)
    for seeds in (1, 3):
        fabricated.make(made, seeds=seeds, program=program)
        track(root, workspace=at)
    key = "table.heads" if workspace is None else "ablations.demo.table.heads"
    (table,) = (one for one in client.search_experiments() if one.tags.get("facet.key") == key)
    current = client.search_runs([table.experiment_id], "tags.`facet.current` = 'true'")
    measured = [run for run in current if "facet.run" in run.data.tags]
    assert sorted((run.info.run_name, run.data.params.get("seeds")) for run in measured) == [
        ("AdaFace", "0, 1, 2"), ("ArcFace", "0, 1, 2"), ("CosFace", "0, 1, 2"),
    ]  # fmt: skip
    # an earlier version left the replaced one as it was: the receipt must not hide that
    old = client.search_runs([table.experiment_id], "tags.`facet.current` = 'false'")[0]
    client.set_tag(old.info.run_id, "facet.current", "true")
    assert track(root, workspace=at).created == ()
    assert client.get_run(old.info.run_id).data.tags["facet.current"] == "false"


def test_tables_of_a_workspace_stand_beside_the_projects_own_in_its_store(root: Path, client: Any, program: Path):
    fabricated.make(root, program=program, rows=("arcface",))
    workspace = Workspace(root / "made", root, "ablations", "faces")
    workspace.folder.mkdir()
    fabricated.make(workspace.folder, program=program)
    track(root)
    own = recorded_runs(root / "tracking/mlflow.db")
    assert len(track(root, workspace=workspace).created) == 4 + 3 + 1
    assert track(root, workspace=workspace).created == ()
    assert recorded_runs(root / "tracking/mlflow.db") == own, "not a mark of the project's is changed"
    experiments = {one.tags.get("facet.key"): one.name for one in client.search_experiments()}
    assert {key: name for key, name in experiments.items() if key and key.startswith("ablations.")} == {
        "ablations.faces.table.heads": "heads (faces): AdaFace against ArcFace and CosFace",
        "ablations.faces.runs": "runs (faces ablations)",
        "ablations.faces.reports": "reports (faces ablations)",
    }
    assert client.get_model_version_by_alias("facet-heads-faces", "best").tags["facet.run"] == "adaface"
    assert client.get_model_version_by_alias("facet-heads", "best").tags["facet.run"] == "arcface"
    assert not (workspace.folder / "tracking").exists()
    places = [recorded_ids.experiment_links(at, "http://here", ["heads"])["heads"] for at in (of_project(root), workspace)]
    assert places[0] != places[1]
    stages = [set(recorded_ids.run_links(at, "http://here")) for at in (of_project(root), workspace)]
    assert [len(found) for found in stages] == [1 + 1 + 1, 3 + 3 + 1], "rows, trainings and the report of each"


def test_tables_that_a_workspace_has_no_longer_stay_current_and_replaced_rows_do_not(root: Path):
    where, scope = Workspace(root / "made", root, "ablations", "demo"), Scope("demo")
    workspace = where.folder
    workspace.mkdir()
    fabricated.make(workspace)
    track(root, workspace=where)

    def marks() -> list[bool]:
        found = recorded_runs(root / "tracking/mlflow.db", scope.has)
        return sorted(run.current for runs in found.values() for run in runs)

    assert marks() == [True] * 8
    resolved = workspace / "resolved/tables/heads.yaml"
    resolved.rename(workspace / "heads.away")
    for run in fabricated.ROWS:
        (workspace / f"resolved/runs/{run}.yaml").unlink()
    track(root, workspace=where)
    assert marks() == [True] * 8, "it was run with other tables since"
    fabricated.make(workspace, margin=0.9)
    track(root, workspace=where)
    assert marks() == [False] * 3 + [True] * 8, "arcface: its training, its row, the report"


def test_tables_of_a_sweep_are_recorded_without_their_models(root: Path, client: Any, program: Path):
    workspace = Workspace(root / "made", root, "sweep", "r1_0")
    workspace.folder.mkdir()
    fabricated.make(workspace.folder, program=program)
    done = track(root, workspace=workspace)
    assert len(done.created) == 4 + 3 + 1
    assert done.waiting == {}
    assert track(root, workspace=workspace).created == ()
    keys = {one.tags["facet.key"] for one in client.search_experiments() if "facet.key" in one.tags}
    assert keys == {"sweep.r1_0.table.heads", "sweep.r1_0.runs", "sweep.r1_0.reports"}
    assert client.search_registered_models() == []
    assert client.search_logged_models([one.experiment_id for one in client.search_experiments()]) == []


def test_the_command_records_a_workspace(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    from pipeline import track as program

    made = root / ".facet/ablations/paper"
    made.mkdir(parents=True)
    fabricated.make(made, rows=("arcface",))
    monkeypatch.chdir(root)
    with quietly():
        assert program.main(["--workspace", "ablations/paper"]) == 0
    assert "MLflow: 4 recorded, 0 already there" in capsys.readouterr().out
    assert any(key.startswith("ablations.paper.") for key in json.loads(
        (root / "tracking/ablations-paper.json").read_text())["experiments"])  # fmt: skip


def test_a_metric_with_a_quality_method_takes_the_rows():
    columns = [{"name": "AUC", "metric": "fiqa.lfw_{quality}_edc", "unit": "fraction", "decimals": 3}]
    from pipeline.tracking.metric_columns import measured

    gathered = {"measured": {"fiqa": {"lfw_cr_fiqa_edc": 0.1234, "lfw_joint_edc": 0.5}}}
    assert measured({"columns": columns}, [gathered], {"quality": "cr_fiqa"}) == {"AUC": 0.123}


def test_the_view_has_a_chart_a_column_in_order_and_published_ones_folded_away(tmp_path: Path):
    import base64
    import zlib

    from pipeline.tracking import saved_views

    fabricated.make(tmp_path, seeds=2)
    look = by_key(collect.collect(tmp_path))["table.heads"].look
    envelope = json.loads(saved_views.state(look))
    state = json.loads(zlib.decompress(base64.b64decode(envelope["state"].removeprefix("deflate;"))))
    sections = {one["uuid"]: one for one in state["compareRunSections"]}
    charts = [(sections[one["metricSectionId"]]["name"], one) for one in state["compareRunCharts"]]
    assert [one["metricKey"] for name, one in charts if name == "Columns of the table"] == [
        column["name"] for column in TABLE["columns"]
    ]
    assert [one["displayName"] for name, one in charts if name == "Measured over published"] == [
        "IJB-B TAR at FAR 1e-4, over published"
    ], "two points are a plot, one is none"
    assert not next(one for one in sections.values() if one["name"] == "Published")["display"]
    assert len({one["uuid"] for _, one in charts}) == len(charts)


def test_another_version_of_mlflow_is_named_in_one_sentence_and_the_installed_one_is_not():
    from pipeline.tracking import saved_views

    assert saved_views.warning() is None, "constraints.txt has another MLflow: look at its pages, then change MADE_FOR"
    assert "MLflow is 3.18.0, the saved views of tables were made for 3.17" in (saved_views.warning("3.18.0") or "")


def test_the_writer_says_once_that_views_were_made_for_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from pipeline.tracking import saved_views, sync

    monkeypatch.setattr(saved_views, "MADE_FOR", "2.0")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    fabricated.make(tmp_path)
    said: list[str] = []
    sync.track(tmp_path, said.append)
    assert [line for line in said if "were made for 2.0" in line] == said[:1]
    assert "recording" in said[1]


def test_the_environment_of_a_training_is_in_its_tags_and_what_is_null_is_left_out(tmp_path: Path):
    program = tmp_path / "program.pt2"
    program.write_bytes(b"")
    fabricated.make(tmp_path / "project", program=program)
    records = by_key(collect.collect(tmp_path / "project"))["runs"].records
    assert records
    for record in records:
        found = {name: value for name, value in record.tags.items() if name.startswith("environment.")}
        assert found == {"environment.python": "3.11.7", "environment.processes": "2"}


def test_a_view_too_wide_for_mlflow_keeps_its_columns_and_leaves_the_charts():
    import secrets

    from pipeline.tracking import saved_views
    from pipeline.tracking.desired import Look

    names = tuple(secrets.token_hex(20) for _ in range(100))
    look = Look(tuple(("metrics", name) for name in names), names)
    assert "compareRunCharts" in saved_views._charts(look)
    assert saved_views.state(look) == saved_views._packed(saved_views._list(look))
