"""`track` completes the run that was shown while something trained: one run per fingerprint, its curve whole."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.entities import Metric, Run
from mlflow.tracking import MlflowClient

from pipeline.tracking import store, sync
from pipeline.tracking.desired import Scope
from pipeline.tracking.following import Follower
from pipeline.tracking.live_runs import FILLING, LIVE
from tests.pipeline import fabricated, live_training
from tests.pipeline.live_training import Training, curve, runs
from tests.pipeline.tracked import quietly, recorded_runs

pytestmark = pytest.mark.slow


@pytest.fixture
def root(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with quietly():
        yield live_training.make(tmp_path, empty_store)


def train(root: Path, follower: Follower | None, last: int = 6, margin: float = 0.5) -> None:
    """Train arcface to its end, followed or not, and have DVC record it."""
    training = Training(root)
    training.steps(1, 3)
    if follower:
        follower.tick()
    training.steps(4, last)
    training.finish()
    fabricated.make(root, rows=("arcface",), margin=margin)


def the(root: Path, status: str) -> Run:
    (run,) = [one for one in runs(store.uri(root)) if one.info.status == status]
    return run


def assert_one_each(root: Path) -> None:
    found = recorded_runs(root / "tracking/mlflow.db")
    assert Counter(len(alike) for alike in found.values()) == {1: len(found)}
    assert {alike[0].status for alike in found.values()} == {"FINISHED"}


@pytest.mark.parametrize("late", ["shown to its end", "follower was killed", "nobody followed"])
def test_a_training_is_one_run_with_its_whole_curve_however_it_was_followed(root: Path, late: str) -> None:
    follower = Follower(root, print)
    train(root, None if late == "nobody followed" else follower)
    shown = [run.info.run_id for run in runs(store.uri(root))]
    if late == "shown to its end":
        follower.tick()
        assert the(root, "FINISHED").info.run_id == shown[0]
    follower.close()
    sync.track(root)
    run = the(root, "FINISHED")
    assert shown in ([run.info.run_id], [])
    assert LIVE not in run.data.tags
    assert run.data.tags["facet.training"] == "k1"
    assert curve(store.uri(root), run) == [1, 2, 3, 4, 5, 6]
    assert [one.step for one in MlflowClient(store.uri(root)).get_metric_history(run.info.run_id, "loss")] == [
        1, 2, 3, 4, 5, 6,
    ]  # fmt: skip  # by epoch
    assert run.data.tags["facet.stage"] == "train_backbone@arcface"
    assert_one_each(root)
    assert sync.track(root).created == ()
    follower = Follower(root, print)
    follower.tick()
    follower.close()
    assert len(runs(store.uri(root))) == 1, "the file of a completed training makes no run again"


def test_a_run_that_a_kill_left_half_filled_is_made_anew_with_its_whole_curve(root: Path) -> None:
    follower = Follower(root, print)
    train(root, follower)
    follower.tick()
    follower.close()
    client, before = MlflowClient(store.uri(root)), the(root, "FINISHED")
    client.set_tag(before.info.run_id, LIVE, FILLING)
    client.log_batch(before.info.run_id, metrics=[Metric("loss", 1.0, 1, 1)])
    sync.track(root)
    run = the(root, "FINISHED")
    assert run.info.run_id != before.info.run_id
    assert curve(store.uri(root), run) == [1, 2, 3, 4, 5, 6]
    assert len(client.get_metric_history(run.info.run_id, "loss")) == 6
    assert_one_each(root)


def test_the_same_training_again_is_shown_apart_while_it_trains_and_is_no_second_run_afterwards(root: Path) -> None:
    follower = Follower(root, print)
    train(root, follower)
    follower.tick()
    sync.track(root)
    again = Training(root)  # `dvc repro --force`
    again.steps(1, 2)
    follower.tick()
    sync.track(root)  # of other results, meanwhile
    assert sorted(run.info.status for run in runs(store.uri(root))) == ["FINISHED", "RUNNING"]
    again.end(signal.SIGKILL)
    follower.tick()
    sync.track(root)
    follower.close()
    (run,) = runs(store.uri(root))
    assert (run.info.status, curve(store.uri(root), run)) == ("FINISHED", [1, 2, 3, 4, 5, 6])
    assert_one_each(root)


def test_a_killed_training_of_other_parameters_is_not_among_the_current_runs(root: Path) -> None:
    follower = Follower(root, print)
    killed = Training(root, key="k0")
    killed.steps(1, 2)
    follower.tick()
    killed.end(signal.SIGKILL)
    follower.tick()
    train(root, follower)
    follower.tick()
    follower.close()
    sync.track(root)
    found = {run.info.status: run.data.tags["facet.current"] for run in runs(store.uri(root))}
    assert found == {"KILLED": "false", "FINISHED": "true"}
    assert Scope().has("runs")
