"""MLflow's server is dead, or is stopped (SIGSTOP), while something trains: no step waits, and the curve ends whole."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.base import environment
from pipeline.tracking import store
from pipeline.tracking.following import Follower
from tests.pipeline import live_training
from tests.pipeline.live_training import Training, curve, runs
from tests.pipeline.tracked import quietly

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


class Server:
    """MLflow's own server on loopback, in a session of its own."""

    def __init__(self, root: Path) -> None:
        self.root, self.port = root, environment.free_port(0)
        self.url = f"http://127.0.0.1:{self.port}"
        self.database = store.uri(root)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1",
            "--backend-store-uri", self.database,
        ]  # fmt: skip
        settings = environment.for_children() | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.root / "server.log").open("ab") as log:
            self.process = subprocess.Popen(command, env=settings, stdout=log, stderr=log, start_new_session=True)
        until_s = time.monotonic() + 120
        while time.monotonic() < until_s:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/health", timeout=5):
                return
            time.sleep(0.1)
        raise TimeoutError((self.root / "server.log").read_text())

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        if self.process is not None:
            self.send(signal.SIGKILL)
            self.process.wait()


@pytest.fixture
def server(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    made = Server(live_training.make(tmp_path, empty_store))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", made.url)
    yield made
    made.kill()


def until_running(follower: Follower, server: Server, last: int) -> None:
    """Tick until the server has the curve up to a step."""
    until_s = time.monotonic() + 90
    while time.monotonic() < until_s:
        follower.tick()
        follower._again_s = 0.0
        with contextlib.suppress(Exception):
            (run,) = runs(server.url)
            if curve(server.url, run)[-1:] == [last]:
                return
        time.sleep(0.2)
    raise TimeoutError(f"step {last} is not in MLflow")


def test_a_server_that_is_dead_and_one_that_is_stopped_cost_no_step_and_no_point(server: Server) -> None:
    said: list[str] = []
    follower = Follower(server.root, said.append)
    with quietly():
        training = Training(server.root)
        training.steps(1, 3)
        follower.tick()  # nobody listens at the server's address
        training.steps(4, 6)
        follower._again_s = 0.0
        follower.tick()
        assert said
        assert said[-1].startswith("arcface: ")
        server.start()
        until_running(follower, server, 6)
        server.send(signal.SIGSTOP)
        training.steps(7, 9)
        follower._again_s = 0.0
        follower.tick()  # whose request the server may still read when it goes on
        training.finish()
        live_training.lock(server.root)
        server.send(signal.SIGCONT)
        until_running(follower, server, 9)
        until_s = time.monotonic() + 60
        while follower.followed and time.monotonic() < until_s:
            follower._again_s = 0.0
            follower.tick()
            time.sleep(0.1)
        (run,) = runs(server.url)
        assert (run.info.status, curve(server.url, run)) == ("FINISHED", list(range(1, 10)))
        follower.close()
