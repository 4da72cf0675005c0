"""MLflow on SQLite filled from a real DVC repository: by `dvc repro`, by hand, by several at once, and again."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from pipeline import lineage, store, tracking
from pipeline.tracking import Tracked
from tests import fake_results
from tests.pipeline import small_project
from tests.pipeline.small_project import RUNS
from tests.support import Project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

TABLE_ROWS = ["ArcFace", "AdaFace"]
ALL = len(RUNS) * 2 + 1  # a row and a training of each, one report


class Mean(torch.nn.Module):
    """Stands for a backbone: the mean of each colour, and of all."""

    def forward(self, image_N3HW: Tensor) -> tuple[Tensor, Tensor]:
        mean_N3 = image_N3HW.float().mean(dim=(2, 3))
        feature_ND = torch.cat([mean_N3, mean_N3.mean(1, keepdim=True) + 1], dim=1)
        return torch.nn.functional.normalize(feature_ND, dim=1), feature_ND.norm(dim=1)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "program.pt2"
    image_N3HW = torch.zeros(2, 3, 112, 112, dtype=torch.uint8)
    with quietly():
        shapes = {"image_N3HW": {0: torch.export.Dim("N", min=1)}}
        torch.export.save(torch.export.export(Mean(), (image_N3HW,), dynamic_shapes=shapes), path)
    return path


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, program: Path) -> Project:
    """A project after one `dvc repro`; tests that share it leave it so."""
    project = small_project.make(tmp_path_factory.mktemp("recorded"), program)
    printed = project.run("dvc", "repro")
    assert f"MLflow: {ALL} recorded, 0 were there" in printed
    return project


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with nothing in it: making one takes longer than most of what is tested on it."""
    root = tmp_path_factory.mktemp("empty")
    with quietly():
        tracking.initialise_store(root)
    return root / "tracking"


@pytest.fixture
def unrecorded(recorded: Project, empty_store: Path, tmp_path: Path) -> Project:
    """A copy of it with an empty MLflow."""
    path = tmp_path / "copy"
    shutil.copytree(recorded.path, path, symlinks=True)
    shutil.rmtree(path / "tracking")
    shutil.copytree(empty_store, path / "tracking")
    marker = path / "tracking/store.json"
    facts = {**json.loads(marker.read_text()), "folder": str(path / "tracking")}
    marker.write_text(json.dumps(facts))
    return Project(path)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """MLflow warns of much, and warnings are errors here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def track(project: Project) -> Tracked:
    """Record in this process, which has imported MLflow already."""
    with quietly():
        return tracking.track(project.path)


def query(project: Project, sql: str, *values: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(project.path / "tracking/mlflow.db")
    try:
        return connection.execute(sql, values).fetchall()
    finally:
        connection.close()


def fingerprints(project: Project) -> dict[str, list[tuple[str, str]]]:
    found = store.recorded(f"sqlite:///{project.path / 'tracking/mlflow.db'}")
    assert found is not None
    return found


def assert_one_each(project: Project, runs: int = ALL) -> None:
    found = fingerprints(project)
    assert Counter(len(alike) for alike in found.values()) == {1: runs}
    assert {alike[0][0] for alike in found.values()} == {"FINISHED"}


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
        [sys.executable, "-c", LOAD, uri, f"runs:/{run.info.run_id}/model"], cwd=tmp_path, text=True,
        capture_output=True, check=False, env=recorded.environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert '"name": "image"' in done.stdout
    assert "feature_norm" in done.stdout
    assert "refused: wanted an aligned face" in done.stdout
    requirements = next(recorded.path.glob("tracking/artifacts/table.heads/models/*/artifacts/requirements.txt"))
    assert sorted(line.split("==")[0] for line in requirements.read_text().split()) == [
        "mlflow", "numpy", "opencv-python-headless", "pandas", "torch",
    ]  # fmt: skip


def test_a_second_dvc_repro_does_nothing_and_the_repository_is_clean(recorded: Project):
    assert "Running stage" not in recorded.run("dvc", "repro")
    assert "up to date" in recorded.run("dvc", "status")
    assert "tracking" not in recorded.run("git", "status", "--short", "--untracked-files=all")


def test_with_nothing_to_do_mlflow_is_not_even_imported(recorded: Project):
    code = "import sys; from pipeline import track; track.main(); sys.exit('mlflow' in sys.modules)"
    assert f"MLflow: 0 recorded, {ALL} were there" in recorded.run("python", "-c", code)


def test_the_address_of_a_table_is_that_of_its_view(recorded: Project):
    url = tracking.experiment_url("http://127.0.0.1:5000/", "heads", recorded.path)
    found = query(recorded, "SELECT experiment_id FROM experiment_tags WHERE value = 'table.heads'")
    assert url == (
        f"http://127.0.0.1:5000/#/experiments/{found[0][0]}/runs?workflowType=machine_learning&viewStateShareKey=table"
    )
    assert tracking.experiment_url("http://127.0.0.1:5000", "nope", recorded.path) is None


def test_a_deleted_store_is_filled_again_with_the_same_fingerprints(recorded: Project, unrecorded: Project):
    shutil.rmtree(unrecorded.path / "tracking")
    printed = unrecorded.run("dvc", "repro")
    assert "Running stage 'track'" in printed
    assert printed.count("Running stage") == 1
    assert set(fingerprints(unrecorded)) == set(fingerprints(recorded))
    assert_one_each(unrecorded)


def test_results_restored_from_the_run_cache_are_recorded_too(recorded: Project, unrecorded: Project):
    for name in ("results", "runs"):
        shutil.rmtree(unrecorded.path / name)
    (unrecorded.path / "dvc.lock").unlink()
    printed = unrecorded.run("dvc", "repro")
    assert printed.count("is cached - skipping run") == 3 * len(RUNS) + 1
    assert set(fingerprints(unrecorded)) == set(fingerprints(recorded))


def test_another_margin_is_another_run_and_the_old_one_is_no_longer_current(unrecorded: Project):
    track(unrecorded)
    before = set(fingerprints(unrecorded))
    for margin, made in ((0.3, 3), (0.5, 0)):
        unrecorded.edit("params.yaml", {"runs": {"arcface": {"margin": margin}}})
        small_project.resolve(unrecorded)
        assert f"MLflow: {made} recorded" in unrecorded.run("dvc", "repro")
        found = fingerprints(unrecorded)
        assert Counter(mark for alike in found.values() for _, mark in alike) == {"true": ALL, "false": 3}
    # back to the old margin nothing is new, and what was current at first is so again
    assert {one for one, alike in found.items() if alike[0][1] == "true"} == before
    assert_one_each(unrecorded, ALL + 3)


def test_processes_at_once_make_one_run_each(unrecorded: Project):
    command = [sys.executable, "-m", "pipeline.track"]
    processes = [
        subprocess.Popen(command, cwd=unrecorded.path, env=unrecorded.environment, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(4)
    ]  # fmt: skip
    printed = [process.communicate(timeout=200)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, printed
    made = sorted(int(text.split("MLflow: ")[1].split()[0]) for text in printed)
    assert made == [0, 0, 0, ALL]
    assert_one_each(unrecorded)


def test_a_tracker_that_was_killed_half_way_leaves_no_double_and_no_half_run(unrecorded: Project):
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline.track"], cwd=unrecorded.path, env=unrecorded.environment,
        text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        while not process.stdout.readline().startswith("recording heads/ArcFace"):
            pass
        while not query(unrecorded, "SELECT 1 FROM runs WHERE status = 'RUNNING'"):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    statuses = Counter(status for alike in fingerprints(unrecorded).values() for status, _ in alike)
    assert statuses["FINISHED"] < ALL
    assert not (unrecorded.path / "tracking/receipt.json").exists()
    assert track(unrecorded).existing
    assert_one_each(unrecorded)
    dangling = query(unrecorded, "SELECT 1 FROM logged_models WHERE lifecycle_stage = 'active'")
    assert len(dangling) == 2 * len(RUNS)


def test_a_receipt_does_not_hide_that_the_store_was_emptied(unrecorded: Project, empty_store: Path):
    track(unrecorded)
    shutil.copy(empty_store / "mlflow.db", unrecorded.path / "tracking/mlflow.db")
    assert len(track(unrecorded).created) == ALL


def test_published_rows_titles_and_models_that_come_later(unrecorded: Project):
    model = unrecorded.path / "runs/arcface/backbone/program.pt2"
    model.rename(model.with_suffix(".away"))
    table = small_project.TABLE_OF_TWO
    rows = {"magface": {"label": "MagFace", "run": None, "published": {"LFW": 99.83}}, **table["rows"]}
    small_project.write_table(unrecorded.path, {**table, "rows": rows, "title": "Another title"})
    track(unrecorded)
    names = "SELECT name FROM experiments WHERE experiment_id IN (SELECT experiment_id FROM experiment_tags)"
    assert ("Another title",) in query(unrecorded, names)
    alone = "SELECT count(*) FROM tags WHERE key = 'facet.published_only' AND value = 'true'"
    assert query(unrecorded, alone) == [(1,)]
    absent = "SELECT count(*) FROM tags WHERE key = 'facet.model' AND value = 'absent'"
    without = query(unrecorded, absent)[0][0]

    model.with_suffix(".away").rename(model)
    small_project.write_table(unrecorded.path, {**table, "rows": rows, "title": "Its last title"})
    assert track(unrecorded).created == (), "a title alone makes no new run"
    assert ("Its last title",) in query(unrecorded, names)
    assert ("Another title",) not in query(unrecorded, names)
    assert query(unrecorded, absent)[0][0] == without - 2, "the row and the training got their model"
    assert_one_each(unrecorded, ALL + 1)


def test_results_that_are_not_what_dvc_locked_are_not_recorded(unrecorded: Project):
    path = unrecorded.path / "results/tables/heads/rows/heads-arcface.json"
    path.write_text(path.read_text().replace("0.7", "0.9"))
    done = track(unrecorded)
    assert done.waiting == {"heads/ArcFace": "results/tables/heads/rows/heads-arcface.json is not what dvc.lock says"}
    assert len(done.created) == ALL - 1


def test_what_is_locked_but_not_here_stays_current(unrecorded: Project):
    track(unrecorded)
    (unrecorded.path / "results/tables/heads/rows/heads-arcface.json").unlink()
    assert list(track(unrecorded).waiting) == ["heads/ArcFace"]
    assert Counter(mark for alike in fingerprints(unrecorded).values() for _, mark in alike) == {"true": ALL}


def test_a_dead_server_fails_the_record_and_nothing_else(unrecorded: Project):
    unrecorded.edit("params.yaml", {"runs": {"arcface": {"margin": 0.4}}})
    small_project.resolve(unrecorded)
    start_s = time.monotonic()
    printed = unrecorded.run("dvc", "repro", check=False, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert time.monotonic() - start_s < 120
    assert "error: results are whole, but MLflow did not take them: " in printed
    assert "failed to reproduce 'track'" in printed
    stale = unrecorded.run("dvc", "status", check=False)
    assert "track" in stale
    assert "tabulate" not in stale, "the table is done"


def test_a_file_that_is_no_database_is_named(unrecorded: Project):
    path = unrecorded.path / "tracking/mlflow.db"
    path.write_bytes(b"no database" * 99)
    printed = unrecorded.run("python", "-m", "pipeline.track", check=False)
    assert f"did not take them: {path} is not a SQLite database: delete it, then record again" in printed


def test_a_store_whose_artifacts_are_elsewhere_is_refused(unrecorded: Project):
    (unrecorded.path / "tracking/store.json").write_text('{"folder": "/elsewhere/tracking"}')
    with pytest.raises(ValueError, match="was made in /elsewhere/tracking, and its artifacts are there"):
        track(unrecorded)


def test_a_store_elsewhere_is_used_when_the_environment_says_so(
    unrecorded: Project, empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "other").mkdir()
    shutil.copy(empty_store / "mlflow.db", tmp_path / "other/mlflow.db")
    uri = f"sqlite:///{tmp_path / 'other/mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert track(unrecorded).uri == uri
    assert len(store.recorded(uri) or {}) == ALL
    assert (tmp_path / "other/artifacts/table.heads").is_dir()
    assert fingerprints(unrecorded) == {}
    # the receipt must not let this store pass for filled
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert len(track(unrecorded).created) == ALL


def test_a_fresh_database_survives_eight_processes_that_want_it(tmp_path: Path, recorded: Project):
    code = "from pipeline import tracking; print(tracking.initialise_store())"
    processes = [
        subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, text=True, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, env=recorded.environment)
        for _ in range(8)
    ]  # fmt: skip
    printed = [process.communicate(timeout=200) for process in processes]
    assert {out.strip() for out, _ in printed} == {f"sqlite:///{tmp_path / 'tracking/mlflow.db'}"}, printed
    assert (tmp_path / "tracking/mlflow.db").is_file()
