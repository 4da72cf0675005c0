"""MLflow's server is dead, or is stopped (SIGSTOP), while something trains: no step waits, and the curve ends whole."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.tracking import store
from pipeline.tracking.following import Follower
from tests.pipeline import live_training
from tests.pipeline.live_training import Training, at_once, curve, runs, until_over, until_shown
from tests.pipeline.mlflow_server import MlflowServer
from tests.pipeline.tracked import quietly

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
def server(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowServer]:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    root = live_training.make(tmp_path, empty_store)
    made = MlflowServer(root, store.uri(root))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", made.url)
    yield made
    made.kill()


def test_a_server_that_is_dead_and_one_that_is_stopped_cost_no_step_and_no_point(server: MlflowServer) -> None:
    said: list[str] = []
    follower = Follower(server.folder, said.append)
    with quietly():
        training = Training(server.folder)
        training.steps(1, 3)
        follower.tick()  # nobody listens at the server's address
        training.steps(4, 6)
        at_once(follower)
        assert said
        assert said[-1].startswith("arcface: ")
        server.start()
        until_shown(follower, server.url, 6)
        server.send(signal.SIGSTOP)
        training.steps(7, 9)
        at_once(follower)  # whose request the server may still read when it goes on
        training.finish()
        live_training.lock(server.folder)
        server.send(signal.SIGCONT)
        until_shown(follower, server.url, 9)
        until_over(follower)
        (run,) = runs(server.url)
        assert (run.info.status, curve(server.url, run)) == ("FINISHED", list(range(1, 10)))
        follower.close()
