"""The services of deploy/compose.yaml without containers: PostgreSQL and an S3-compatible server, and their own commands."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline.base import environment
from tests.machines.proof import S3_ACCESS, s3_server
from tests.support import ROOT

COMPOSE = ROOT / "deploy/compose.yaml"
PASSWORD = "secret"
START_S = 240.0


def compose() -> dict[str, Any]:
    """Return compose.yaml."""
    tree = yaml.safe_load(COMPOSE.read_text())
    assert isinstance(tree, dict)
    return tree


@dataclass(frozen=True)
class Cluster:
    """Addresses of what runs, and how a program reaches it."""

    prefect: str
    mlflow: str
    store: str
    database: str

    def environment(self) -> dict[str, str]:
        """Return what docs/cluster.md exports on the desk."""
        return S3_ACCESS | {
            "PREFECT_API_URL": f"{self.prefect}/api",
            "MLFLOW_TRACKING_URI": self.mlflow,
            "AWS_ENDPOINT_URL": self.store,
        }

    def count(self, database: str, what: str) -> int:
        """Return how many rows of a query PostgreSQL has."""
        return int(_psql(self.database, database, f"SELECT count(*) FROM {what}").strip())


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """A PostgreSQL server of its own with the databases of deploy/databases.sql; yields HOST:PORT."""
    port, data = environment.free_port(0), folder / "data"
    data.mkdir(parents=True)
    # it refuses to run as root
    user = "postgres" if os.getuid() == 0 else None
    if user:
        shutil.chown(folder, user)
        shutil.chown(data, user)
    programs = _programs()
    options: dict[str, Any] = {"user": user, "cwd": folder, "env": {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}}
    subprocess.run(
        [programs / "initdb", "--auth", "trust", "--username", "facet", "--pgdata", data],
        check=True, stdout=subprocess.DEVNULL, **options,
    )  # fmt: skip
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [programs / "postgres", "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", folder], stdout=log, stderr=log, **options
        )
    address = f"127.0.0.1:{port}"
    try:
        _until(lambda: _psql(address, "postgres", "SELECT 1"), folder / "log")
        for line in (ROOT / "deploy/databases.sql").read_text().splitlines():
            _psql(address, "postgres", line)
        yield address
    finally:
        server.terminate()  # a "smart" shutdown would wait for its clients: they have ended
        server.wait()


def _programs() -> Path:
    """Return the folder of PostgreSQL's programs: Debian has them in a folder that is not on PATH."""
    found = [Path("/usr/lib/postgresql", version, "bin") for version in ("18", "17", "16", "15", "14")]
    on_path = shutil.which("initdb")
    return next((path for path in found if (path / "initdb").exists()), Path(on_path).parent if on_path else found[0])


def missing() -> str | None:
    """Return why the cluster cannot be started here, if it cannot."""
    if not (_programs() / "initdb").exists():
        return "PostgreSQL is not installed: `apt install postgresql`"
    for name in ("psycopg2", "boto3", "moto"):
        if subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True, check=False).returncode:
            return f"{name} is not installed: make cluster"
    return None


def _psql(address: str, database: str, command: str) -> str:
    host, port = address.split(":")
    call = [_programs() / "psql", "-h", host, "-p", port, "-U", "facet", "-d", database, "-Atc", command]
    return subprocess.run(call, check=True, capture_output=True, text=True, timeout=60).stdout


def _until(look: Any, log: Path) -> None:
    until_s = time.monotonic() + START_S
    while True:
        try:
            look()
        except (OSError, subprocess.CalledProcessError):
            assert time.monotonic() < until_s, log.read_text()
            time.sleep(0.2)
        else:
            return


@contextmanager
def _program(command: Sequence[str], extra: Mapping[str, str], log: Path, health: str) -> Iterator[None]:
    """A server as a service of compose.yaml starts it, healthy."""
    with log.open("w") as out:
        settings = environment.for_children(os.environ | {"HOME": str(log.parent)}) | extra
        server = subprocess.Popen(command, env=settings, cwd=log.parent, stdout=out, stderr=out)
    try:
        _until(lambda: subprocess.run([sys.executable, ROOT / "deploy/answers.py", health], check=True, capture_output=True), log)
        yield
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@contextmanager
def started(folder: Path) -> Iterator[Cluster]:
    """All services but the worker, on loopback."""
    services = compose()["services"]
    with ExitStack() as stack:
        database = stack.enter_context(postgresql(folder / "postgresql"))
        store = stack.enter_context(s3_server(folder))
        ports = {name: environment.free_port(0) for name in ("prefect", "mlflow")}
        urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        here = {
            "${PASSWORD}": PASSWORD,
            "database:5432": database,
            "0.0.0.0": "127.0.0.1",
            "4200": str(ports["prefect"]),
            "5000": str(ports["mlflow"]),
        }

        def local(text: str) -> str:
            for theirs, ours in here.items():
                text = text.replace(theirs, ours)
            return text

        def program(name: str, health: str) -> None:
            command = [local(part) for part in services[name]["command"]]
            extra = {key: local(value) for key, value in services[name]["environment"].items() if not key.startswith("AWS_")}
            log = folder / f"{name}.log"
            stack.enter_context(_program([sys.executable, "-m", *command], extra | of_store, log, health))

        cluster = Cluster(urls["prefect"], urls["mlflow"], store, database)
        of_store = {key: value for key, value in cluster.environment().items() if key.startswith("AWS_")}
        buckets = [sys.executable, *services["buckets"]["command"][1:]]
        for _ in range(2):  # the second finds both there
            subprocess.run(buckets, check=True, cwd=ROOT, env=os.environ | of_store)
        program("prefect", f"{urls['prefect']}/api/health")
        program("mlflow", f"{urls['mlflow']}/health")
        yield cluster


def answers(url: str, host: str) -> int:
    """Return the status of ``url`` asked under the name of another host."""
    request = urllib.request.Request(url, headers={"Host": host})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
