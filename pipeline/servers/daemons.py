"""Servers and workers: processes that belong to a project's folder and outlive the shell that started them.

Each leads a session of its own, and ``.facet/services.json`` says which process that is (pid and time of birth,
because pids come again).
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from pipeline.base import environment, process_identity, records
from stages.runtime import locks

PREFECT, MLFLOW, WORKER = "prefect", "mlflow", "worker"
HEALTH = {PREFECT: "/api/health", MLFLOW: "/health"}
REMAINS_TIMEOUT_S = 20.0

# those that this process started: they outlive us, so nobody waits for them; reaped if they end first
children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True)
class Service:
    """A server or worker that was started."""

    name: str
    url: str
    """Address of a server; empty for a worker, which only sends requests."""
    pid: int
    born: float
    """Start time from the kernel, in seconds since the epoch."""

    def __post_init__(self) -> None:
        process_identity.check(self.pid)

    @property
    def alive(self) -> bool:
        """Return whether the process that was started still runs."""
        if self.pid in children:
            children[self.pid].poll()
        return process_identity.is_alive(self.pid, self.born)

    @property
    def healthy(self) -> bool:
        """Return whether the server answers."""
        try:
            with urllib.request.urlopen(self.url + HEALTH[self.name], timeout=5) as answer:
                return bool(answer.status == 200)
        # no HTTP at all, or a redirect to nowhere: another program has the port
        except (OSError, http.client.HTTPException, ValueError):
            return False

    @property
    def listens(self) -> bool:
        """Return whether the port of its address is held by a process of its session."""
        port = urlsplit(self.url).port
        for process in self.members():
            with contextlib.suppress(psutil.Error):
                for socket in process.net_connections("tcp"):
                    if socket.status == psutil.CONN_LISTEN and socket.laddr.port == port:
                        return True
        return False

    def members(self) -> list[psutil.Process]:
        """Return the living processes of its session: the server and its children, even if the server is dead."""
        if psutil.boot_time() > self.born + process_identity.BIRTH_TOLERANCE_S:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            if not process_identity.is_same(psutil.Process(self.pid), self.born):
                # the pid is someone else's now: the kernel gives it only when the session is empty
                return []
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(ProcessLookupError, PermissionError, psutil.Error):
                if os.getsid(process.pid) == self.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found


def known(root: Path) -> dict[str, Service]:
    """Return the services that were started here and are alive, by name."""
    return {name: service for name, service in recorded(root).items() if service.alive}


def recorded(root: Path) -> dict[str, Service]:
    """Return the services that were started here and not ended by `down`, alive or dead."""
    entries = environment.read_json(record(root)).items()
    return {name: one for name, entry in entries if (one := records.of(Service, entry)) is not None}


def add(root: Path, name: str, command: Sequence[str], settings: Mapping[str, str]) -> Service:
    """Start a program that `down` will end with the servers, unless one of that name runs; return it."""
    with alone(root):
        # the dead too: `down` must find what they left running
        services = recorded(root)
        if name not in services or not services[name].alive:
            if name in services:
                end_remains(services[name])
            services[name] = spawn(root, name, "", command, settings)
            write(root, services)
        return services[name]


def end_remains(service: Service) -> None:
    """End the remaining children of a dead program before another takes its name and port."""
    if service.name.startswith(WORKER):  # its stage keeps what it has; a server's children keep nothing
        end([service], signal.SIGTERM, REMAINS_TIMEOUT_S)
    end([service], signal.SIGKILL, REMAINS_TIMEOUT_S)


def end(services: Sequence[Service], number: int, timeout_s: float, leaders_only: bool = False) -> None:
    """Send a signal to programs and their children (or to the programs alone), and wait until all have ended."""
    for service in services:
        for process in service.members():
            if process.pid == service.pid or not leaders_only:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(number)
    until_s = time.monotonic() + timeout_s
    while any(service.members() for service in services) and time.monotonic() < until_s:
        time.sleep(0.1)


def spawn(root: Path, name: str, url: str, command: Sequence[str], settings: Mapping[str, str]) -> Service:
    """Start a program in its own session, with a log file."""
    log_path = log_of(root, name)
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd=root,
            env=settings,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    children[process.pid] = process
    return Service(name, url, process.pid, psutil.Process(process.pid).create_time())


def log_of(root: Path, name: str) -> Path:
    """Return the log of a server or worker."""
    kind = "" if name.startswith(WORKER) else "-server"
    return environment.log_folder(root) / f"{name.replace(' ', '-').replace(':', '-')}{kind}.log"


def record(root: Path) -> Path:
    """Return the file that records the started services."""
    return environment.state_folder(root) / "services.json"


def write(root: Path, services: Mapping[str, Service]) -> None:
    """Write the record of running services."""
    environment.write_json(record(root), {name: asdict(service) for name, service in services.items()})


@contextlib.contextmanager
def alone(root: Path) -> Iterator[None]:
    """Block a second `facet up` or `facet down` of this project."""
    with locks.held(environment.state_folder(root) / "services.lock"):
        yield
