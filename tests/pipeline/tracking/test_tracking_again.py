"""MLflow filled again: after losses, kills and changes, by several at once, elsewhere."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.pipeline import small_project
from tests.pipeline.small_project import RUNS
from tests.pipeline.tracked import ALL, assert_one_each, fingerprints, query, recorded_runs, track
from tests.support import Project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


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
    assert len(dangling) == len(RUNS)


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
    assert done.waiting == {"heads/ArcFace": "results/tables/heads/rows/heads-arcface.json differs from dvc.lock"}
    assert len(done.created) == ALL - 1


def test_what_is_locked_but_not_here_stays_current(unrecorded: Project):
    track(unrecorded)
    (unrecorded.path / "results/tables/heads/rows/heads-arcface.json").unlink()
    assert list(track(unrecorded).waiting) == ["heads/ArcFace"]
    assert Counter(mark for alike in fingerprints(unrecorded).values() for _, mark in alike) == {"true": ALL}


def test_a_dead_server_fails_the_record_and_nothing_else(unrecorded: Project):
    unrecorded.edit("params.yaml", {"runs": {"arcface": {"margin": 0.4}}})
    small_project.resolve(unrecorded)
    # MLflow's own number of tries would take longer than `run` waits
    printed = unrecorded.run("dvc", "repro", check=False, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert "error: results are complete, but MLflow refused them: " in printed
    assert "failed to reproduce 'track'" in printed
    stale = unrecorded.run("dvc", "status", check=False)
    assert "track" in stale
    assert "tabulate" not in stale, "the table is done"


def test_a_file_that_is_no_database_is_named(unrecorded: Project):
    path = unrecorded.path / "tracking/mlflow.db"
    path.write_bytes(b"no database" * 99)
    printed = unrecorded.run("python", "-m", "pipeline.track", check=False)
    assert f"MLflow refused them: {path} is not a SQLite database: delete it, then run `facet track`" in printed


def test_results_of_a_checkout_that_git_refuses_are_recorded_with_a_warning(unrecorded: Project):
    printed = unrecorded.run("python", "-m", "pipeline.track", GIT_TEST_ASSUME_DIFFERENT_OWNER="1")
    assert "recorded without the commit: git says: fatal: detected dubious ownership in repository at" in printed
    assert f"MLflow: {ALL} recorded" in printed


def test_a_store_whose_artifacts_are_elsewhere_is_refused(unrecorded: Project):
    (unrecorded.path / "tracking/store.json").write_text('{"folder": "/elsewhere/tracking"}')
    with pytest.raises(ValueError, match="was created in /elsewhere/tracking, and its artifacts' addresses lead there"):
        track(unrecorded)


def test_a_store_elsewhere_is_used_when_the_environment_says_so(
    unrecorded: Project, empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "other").mkdir()
    shutil.copy(empty_store / "mlflow.db", tmp_path / "other/mlflow.db")
    uri = f"sqlite:///{tmp_path / 'other/mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert track(unrecorded).uri == uri
    assert len(recorded_runs(tmp_path / "other/mlflow.db")) == ALL
    assert (tmp_path / "other/artifacts/table.heads").is_dir()
    assert fingerprints(unrecorded) == {}
    # the receipt must not let this store pass for filled
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert len(track(unrecorded).created) == ALL


def test_a_fresh_database_survives_eight_processes_that_want_it(tmp_path: Path, recorded: Project):
    code = "from pipeline.tracking import sync; print(sync.initialise_store())"
    processes = [
        subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, text=True, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, env=recorded.environment)
        for _ in range(8)
    ]  # fmt: skip
    printed = [process.communicate(timeout=200) for process in processes]
    assert {out.strip() for out, _ in printed} == {f"sqlite:///{tmp_path / 'tracking/mlflow.db'}"}, printed
    assert (tmp_path / "tracking/mlflow.db").is_file()
