"""MLflow's disk is full while something trains: really, on a file system of its own; later the run is complete."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from pipeline.tracking import store
from pipeline.tracking.following import Follower
from tests.pipeline import live_training
from tests.pipeline.live_training import Training, at_once, curve, runs, until_over, until_shown
from tests.pipeline.mlflow_server import MlflowServer
from tests.pipeline.tracked import quietly

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


class Disk:
    """A file system of a few megabytes, filled and freed by one file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(path)], capture_output=True)
        if mounted.returncode:
            pytest.skip("only root may mount a small disk")

    def fill(self) -> None:
        with contextlib.suppress(OSError), (self.path / "filler").open("wb", buffering=0) as stream:
            while stream.write(bytes(4096)):
                pass

    def free(self) -> None:
        (self.path / "filler").unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Of the project's MLflow, its database and its artifacts."""
    made = Disk(tmp_path / "tracking")
    yield made
    subprocess.run(["umount", "-l", str(made.path)], check=True)


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    with quietly():
        yield


@pytest.fixture
def root(tmp_path: Path, disk: Disk, empty_store: Path) -> Path:
    return live_training.make(tmp_path, empty_store)


@pytest.fixture(params=["the server's", "its own"])
def uri(root: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of a store on the disk: behind a server, which answers 500 when it is full, or the database itself."""
    if request.param == "its own":
        yield store.uri(root)
        return
    server = MlflowServer(root.parent, store.uri(root))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    server.start()
    yield server.url
    server.kill()


def test_a_full_disk_of_mlflow_costs_no_step_and_the_run_is_complete_when_it_has_space(
    root: Path, disk: Disk, uri: str
) -> None:
    said: list[str] = []
    follower = Follower(root, said.append)
    training = Training(root)
    training.steps(1, 3)
    until_shown(follower, uri, 3)
    assert said == []
    disk.fill()
    with ThreadPoolExecutor() as pool:
        refused = pool.submit(until_refused, follower, said)
        began_s = time.monotonic()
        training.steps(4, 905)
        assert time.monotonic() - began_s < 5
        refused.result()
    assert ("503" if uri.startswith("http") else "database or disk is full") in said[0], said
    training.finish()
    live_training.lock(root)
    at_once(follower)
    (run,) = runs(uri)
    assert (run.info.status, curve(uri, run)) == ("RUNNING", [1, 2, 3])
    disk.free()
    until_over(follower)
    (run,) = runs(uri)
    assert (run.info.status, curve(uri, run)) == ("FINISHED", list(range(1, 906)))
    assert run.data.params["head.margin"] == "0.5"
    follower.close()


def until_refused(follower: Follower, said: list[str]) -> None:
    """Tick until the store has refused something."""
    until_s = time.monotonic() + 60
    while not said and time.monotonic() < until_s:
        at_once(follower)


def test_what_a_store_refused_when_the_run_was_opened_is_there_later(
    tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = live_training.make(tmp_path, empty_store)
    refused: list[str] = []
    log_batch, set_tag = MlflowClient.log_batch, MlflowClient.set_experiment_tag

    def full(*arguments: Any, **more: Mapping[str, Any]) -> None:
        if "params" in more and "params" not in refused:
            refused.append("params")
            raise OSError("database or disk is full")
        log_batch(*arguments, **more)

    def full_too(*arguments: Any) -> None:
        if "note" not in refused:
            refused.append("note")
            raise OSError("database or disk is full")
        set_tag(*arguments)

    monkeypatch.setattr(MlflowClient, "log_batch", full)
    monkeypatch.setattr(MlflowClient, "set_experiment_tag", full_too)
    follower = Follower(root, print)
    training = Training(root)
    training.steps(1, 3)
    until_shown(follower, store.uri(root), 3)
    (run,) = runs(store.uri(root))
    assert sorted(refused) == ["note", "params"]
    assert run.data.params == {"dataset": "demo", "head.name": "arcface", "head.margin": "0.5", "seed": "0"}
    note = MlflowClient(store.uri(root)).get_experiment(run.info.experiment_id).tags["mlflow.note.content"]
    assert "As the table" in note
    training.finish()
    follower.close()
