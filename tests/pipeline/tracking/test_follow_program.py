"""The follower as a program: a training starts it without knowing it, one runs per project, and `facet down` ends it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from pipeline import follow
from pipeline.base import environment, workspace
from pipeline.servers import follower
from pipeline.tracking import store
from stages.runtime import followers
from tests.pipeline import live_training
from tests.pipeline.live_training import Training, curve, runs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
def root(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in ("MLFLOW_TRACKING_URI", "FACET_LOG_FILE", "FACET_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FACET_FOLLOW", "1")
    yield live_training.make(tmp_path, empty_store)
    follower.end(tmp_path)


def wait(found: Callable[[], object], seconds: float = 120) -> None:
    until_s = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < until_s, "it did not happen"
        time.sleep(0.2)


def test_a_training_starts_what_is_registered_and_is_shown_and_facet_down_ends_it(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert followers.modules() == [follow.__name__]
    training = Training(root)
    training.steps(1, 3)
    monkeypatch.chdir(root)
    followers.start(Path(".facet/logs"))  # as stages/train_backbone.py does
    wait(lambda: follower.runs(root))
    process = psutil.Process(int((root / ".facet/follower.pid").read_text()))
    assert os.getsid(process.pid) == process.pid  # what ends a stage's processes does not reach it
    assert process.nice() > psutil.Process().nice()
    second = subprocess.run([sys.executable, "-m", "pipeline.follow"], check=False, timeout=120)
    assert (second.returncode, process.is_running()) == (0, True)
    wait(lambda: runs(store.uri(root)))
    training.steps(4, 5)
    wait(lambda: curve(store.uri(root), runs(store.uri(root))[0]) == [1, 2, 3, 4, 5])
    training.finish()
    live_training.lock(root)
    wait(lambda: runs(store.uri(root))[0].info.status == "FINISHED")
    assert follower.end(root)
    assert not follower.runs(root)
    assert not follower.end(root)


@pytest.mark.parametrize("variable", ["FACET_FOLLOW", "FACET_LOG_FILE"])
def test_no_training_starts_one_where_that_is_switched_off_or_the_executor_s_run_has(
    root: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(followers, "spawn", lambda module, folder, log_folder: asked.append(module))
    followers.start(root)
    assert asked == [follow.__name__]
    monkeypatch.setenv(variable, "0")
    followers.start(root)
    assert len(asked) == 1


def test_it_ends_by_itself_when_nothing_trains(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "IDLE_S", 0.0)
    monkeypatch.setattr(follow, "POLL_S", 0.0)
    follow.follow(root)
    assert not (root / ".facet/live").exists()


def test_a_workspace_beside_a_project_has_the_project_s_follower(root: Path) -> None:
    side = workspace.beside(root, "ablations", "demo").folder
    (side / ".dvc").mkdir(parents=True)
    (side / "dvc.yaml").write_text("stages: {}\n")
    assert follow.project_of(environment.find_root(side)) == root
    assert follow.project_of(root) == root
