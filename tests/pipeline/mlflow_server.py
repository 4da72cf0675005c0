"""MLflow's own server on loopback, which may be stopped and killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil

from pipeline.base import environment

START_S = 120.0


class MlflowServer:
    """MLflow's server in a session of its own, on one port however often it is started."""

    def __init__(self, folder: Path, database: str) -> None:
        """Prepare it.

        Args:
            folder: for its log.
            database: address of the store.
        """
        self.folder, self.database, self.port = folder, database, environment.free_port(0)
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1",
            "--backend-store-uri", self.database,
        ]  # fmt: skip
        settings = environment.for_children() | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(command, env=settings, stdout=log, stderr=log, start_new_session=True)
        until_s = time.monotonic() + START_S
        while time.monotonic() < until_s:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/health", timeout=5):
                return
            time.sleep(0.1)
        raise TimeoutError((self.folder / "server.log").read_text())

    def send(self, number: signal.Signals) -> None:
        """Send a signal to all its processes."""
        assert self.process is not None
        os.killpg(self.process.pid, number)

    def fill_disk(self, full: bool) -> None:
        """Let it write to no file, as on a full disk, or to all again."""
        assert self.process is not None
        leader = psutil.Process(self.process.pid)
        for process in (leader, *leader.children(recursive=True)):
            _, hard = process.rlimit(psutil.RLIMIT_FSIZE)
            process.rlimit(psutil.RLIMIT_FSIZE, (1 if full else hard, hard))

    def kill(self) -> None:
        """End it at once, if it runs."""
        if self.process is not None:
            self.send(signal.SIGKILL)
            self.process.wait()
            self.process = None
