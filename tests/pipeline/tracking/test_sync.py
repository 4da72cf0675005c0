"""What MLflow shows of a real DVC repository after `dvc repro`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.base import workspace
from pipeline.base.workspace import Workspace
from pipeline.tracking import lineage, recorded_ids
from tests import fake_results
from tests.pipeline.small_project import RUNS
from tests.pipeline.tracked import ALL, TABLE_ROWS, query, quietly
from tests.support import Project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def client(recorded: Project) -> Any:
    with quietly():
        from mlflow.tracking import MlflowClient

        return MlflowClient(f"sqlite:///{recorded.path / 'tracking/mlflow.db'}")


@pytest.fixture(scope="module")
def runs(client: Any) -> dict[str, Any]:
    """All runs by kind and name."""
    found = {}
    for experiment in client.search_experiments():
        for run in client.search_runs([experiment.experiment_id]):
            found[f"{run.data.tags['facet.kind']}/{run.info.run_name}"] = run
    return found


def test_a_table_is_an_experiment_and_its_rows_are_the_runs(client: Any):
    experiments = {one.tags.get("facet.key"): one for one in client.search_experiments()}
    assert set(experiments) == {None, "table.heads", "runs", "reports"}, "None is MLflow's own Default"
    table = experiments["table.heads"]
    assert table.name == "AdaFace against ArcFace and CosFace"
    order = ["tags.`facet.position` ASC"]
    rows = client.search_runs([table.experiment_id], "tags.`facet.current` = 'true'", order_by=order)
    assert [run.info.run_name for run in rows] == TABLE_ROWS
    newest_first = client.search_runs([table.experiment_id])
    assert [run.info.run_name for run in newest_first] == TABLE_ROWS, "as the page lists them unasked"


def test_metrics_are_the_tables_columns_with_the_published_ones_beside(recorded: Project, runs: dict[str, Any]):
    report = json.loads((recorded.path / "results/tables/heads/report/table.json").read_text())
    for row in report["rows"]:
        metrics = runs[f"row/{row['label']}"].data.metrics
        measured = {name: cell["measured"] for name, cell in row["cells"].items()}
        published = {f"published.{name}": cell["published"] for name, cell in row["cells"].items()}
        assert metrics == {name: value for name, value in (measured | published).items() if value is not None}
    assert runs["row/AdaFace"].data.metrics["LFW"] == 73.0, "percent, as the table shows it"


def test_parameters_of_a_row_are_those_of_the_ablation_only(runs: dict[str, Any]):
    assert runs["row/ArcFace"].data.params == {"head.name": "arcface", "head.margin": "0.5"}


def test_tags_say_where_a_row_comes_from(recorded: Project, runs: dict[str, Any]):
    tags = runs["row/ArcFace"].data.tags
    wanted = {
        "facet.table": "heads", "facet.row": "arcface", "facet.run": "arcface", "facet.current": "true",
        "facet.profile": "demo", "facet.dataset": "demo", "facet.stage": "row@heads-arcface",
        "facet.weights_sha256": fake_results.weights_sha256("arcface"), "facet.git_dirty": "false",
        "facet.git_commit": recorded.run("git", "rev-parse", "HEAD").strip(),
    }  # fmt: skip
    assert {name: tags.get(name) for name in wanted} == wanted
    locked = yaml.safe_load((recorded.path / "dvc.lock").read_text())["stages"]
    model = {out["path"]: out["md5"] for out in locked["train_backbone@arcface"]["outs"]}
    assert tags["dvc.runs/arcface/backbone"] == model["runs/arcface/backbone"]
    assert tags["dvc.results/tables/heads/rows/heads-arcface.json"] == locked["row@heads-arcface"]["outs"][0]["md5"]


def test_what_dvc_locked_is_found_with_the_commit_at_which_it_was_recorded(recorded: Project):
    found = recorded_ids.runs(workspace.of_project(recorded.path))
    entry = lineage.read(recorded.path).entries["train_backbone@arcface"]
    assert found[lineage.fingerprint(entry)].commit == recorded.run("git", "rev-parse", "HEAD").strip()
    assert recorded_ids.runs(Workspace(recorded.path / "made", recorded.path, "ablations", "demo")) == {}


def test_dvcs_hash_of_a_folder_is_known(recorded: Project):
    locked = lineage.read(recorded.path)
    checked = 0
    for entry in locked.entries.values():
        for path, md5 in entry.outs.items():
            assert lineage.matches(recorded.path / path, md5), path
            checked += md5.endswith(".dir")
    assert checked >= 10


def test_a_training_has_its_curve_by_epoch_and_all_its_parameters(client: Any, runs: dict[str, Any]):
    run = runs["training/adaface"]
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [
        (epoch, round(8 / epoch / 1.3, 4)) for epoch in range(1, 7)
    ]
    assert run.data.params["schedule.epochs"] == run.data.params["epochs"] == "6"
    assert set(run.data.metrics) == {"loss", "learning_rate"}, "counts are no curves"
    assert run.data.params["backbone.name"] == "iresnet"


def test_the_report_is_a_run_of_its_own_with_the_files_and_tau(client: Any, runs: dict[str, Any]):
    run = runs["report/AdaFace against ArcFace and CosFace"]
    files = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert {"table.html", "table.md", "table.csv", "table.json", "order.svg", "lineage.json"} <= files
    assert run.data.metrics["tau"] == 1.0
    assert "τ +1.00" in run.data.tags["mlflow.note.content"]


def test_the_saved_view_is_the_table(client: Any):
    import base64
    import zlib

    table = next(one for one in client.search_experiments() if one.tags.get("facet.key") == "table.heads")
    envelope = json.loads(table.tags["mlflow.sharedViewState.table"])
    state = json.loads(zlib.decompress(base64.b64decode(envelope["state"].removeprefix("deflate;"))))
    assert state["searchFilter"] == "tags.`facet.current` = 'true'"
    assert state["columnOrder"][2:6] == [
        "params.`head.name`", "params.`head.margin`", "metrics.`LFW`", "metrics.`published.LFW`",
    ]  # fmt: skip
    assert set(state["selectedColumns"]) == set(state["columnOrder"][2:-1])


LOAD = """
import sys, warnings, numpy as np
warnings.simplefilter("ignore")
import mlflow
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(sys.argv[2])
print(model.metadata.signature.to_dict())
image = np.zeros((70, 112, 112, 3), np.uint8)
image[3, ..., 0], image[3, ..., 2] = 3, 30
given = model.predict({"image": [*image, image[3, ..., :2]]})
embedding = np.stack(given["embedding"][:70])
assert embedding.shape == (70, 4)
assert np.allclose(embedding[3] * given["feature_norm"][3], [3, 0, 30, 12])  # blue first
assert np.allclose(np.linalg.norm(embedding, axis=1), 1)
assert given["error"][:70].isna().all() and given["embedding"][70] is None
print("refused:", given["error"][70])
assert not [name for name in sys.modules if name.split(".")[0] in ("stages", "pipeline")]
"""


def test_the_model_of_a_row_loads_and_predicts_elsewhere(recorded: Project, runs: dict[str, Any], tmp_path: Path):
    run = runs["row/AdaFace"]
    uri = f"sqlite:///{recorded.path / 'tracking/mlflow.db'}"
    done = subprocess.run(
        [sys.executable, "-c", LOAD, uri, run.data.tags["facet.model"]], cwd=tmp_path, text=True,
        capture_output=True, check=False, env=recorded.environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert '"name": "image"' in done.stdout
    assert "feature_norm" in done.stdout
    assert "refused: wanted an aligned face" in done.stdout
    requirements = next(recorded.path.glob("tracking/artifacts/runs/models/*/artifacts/requirements.txt"))
    assert sorted(line.split("==")[0] for line in requirements.read_text().split()) == [
        "mlflow", "numpy", "opencv-python-headless", "pandas", "torch",
    ]  # fmt: skip


def test_a_second_dvc_repro_does_nothing_and_the_repository_is_clean(recorded: Project):
    assert "Running stage" not in recorded.run("dvc", "repro")
    assert "up to date" in recorded.run("dvc", "status")
    assert "tracking" not in recorded.run("git", "status", "--short", "--untracked-files=all")


LINKS = """
import sys
from pathlib import Path
from pipeline.base import workspace
from pipeline.tracking import recorded_ids, sync
here = workspace.of_project(Path())
assert sync.is_recorded(here)
assert len(recorded_ids.run_links(here, "http://127.0.0.1:5000")) == int(sys.argv[1])
assert recorded_ids.experiment_links(here, "http://127.0.0.1:5000", ["heads"])
sys.exit("mlflow" in sys.modules)
"""


def test_links_and_what_is_recorded_need_no_import_of_mlflow(recorded: Project):
    recorded.run("python", "-c", LINKS, str(ALL))


def test_the_address_of_a_table_is_that_of_its_view(recorded: Project):
    here = workspace.of_project(recorded.path)
    found = query(recorded, "SELECT experiment_id FROM experiment_tags WHERE value = 'table.heads'")
    assert recorded_ids.experiment_links(here, "http://127.0.0.1:5000/", ["heads", "nope"]) == {
        "heads": f"http://127.0.0.1:5000/#/experiments/{found[0][0]}/runs"
        "?workflowType=machine_learning&viewStateShareKey=table"
    }


def test_a_stage_links_to_its_current_run(recorded: Project, client: Any):
    links = recorded_ids.run_links(workspace.of_project(recorded.path), "http://127.0.0.1:5000/")
    assert set(links) == {"tabulate@heads", *(f"{kind}{run}" for run in RUNS for kind in ("row@heads-", "train_backbone@"))}
    experiment, run = links["row@heads-adaface"].removeprefix("http://127.0.0.1:5000/#/experiments/").split("/runs/")
    assert client.get_run(run).info.experiment_id == experiment
    assert client.get_run(run).info.run_name == "AdaFace"
