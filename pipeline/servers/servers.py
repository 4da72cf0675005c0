"""A project's servers, Prefect's and MLflow's: started once on loopback, stopped together with its workers.

A server that the environment names (PREFECT_API_URL, MLFLOW_TRACKING_URI) is somebody else's, and none is started
here in its place.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Lock, Thread
from urllib.parse import urlsplit

from pipeline.base import environment
from pipeline.execution.stopping import GRACE_S
from pipeline.servers import crash_automation, daemons, follower
from pipeline.servers.daemons import MLFLOW, PREFECT, WORKER, Service, known, recorded
from pipeline.tracking import subprocess_client
from stages.core.errors import OperationError

__all__ = ["MLFLOW", "PORTS", "PREFECT", "Service", "down", "elsewhere", "flow_run_url", "known", "missing", "up"]

PORTS = {PREFECT: 4200, MLFLOW: 5000}
START_TIMEOUT_S = 240.0
STOP_TIMEOUT_S = 20.0
WORKER_STOP_TIMEOUT_S = GRACE_S + 15.0
"""Time for a worker to let its stage save its state, and to report."""
SAY_EVERY_S = 10.0

Say = Callable[[str], None]


def elsewhere() -> dict[str, str]:
    """Return the addresses of servers that the environment names, by name: these are not started here.

    MLflow's is without user and password, since it is for people; it may be that of a database, which has no pages.
    """
    found = {}
    if url := os.environ.get("PREFECT_API_URL"):
        found[PREFECT] = url.rstrip("/").removesuffix("/api")
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if uri and not uri.startswith(("sqlite:", "file:", "/", ".")):
        found[MLFLOW] = environment.without_password(uri.rstrip("/"))
    return found


def missing(root: Path) -> list[str]:
    """Return the servers that `up` would start."""
    there = {*known(root), *elsewhere()}
    return [name for name in PORTS if name not in there]


def up(root: Path, say: Say, ports: Mapping[str, int] = PORTS) -> dict[str, Service]:
    """Start the servers that are not running, wait until all answer, and return ours by name.

    A server that has died comes back at its old address, where runs in mid-flight look for it.

    Raises:
        RuntimeError: a server ended or did not answer in time; the message names its log.
    """
    with daemons.alone(root):
        services = known(root)
        wanted = missing(root)
        # with the dead: `down` must find what they left running
        there = recorded(root)
        for name in set(wanted) & set(there):
            daemons.end_remains(there[name])
        own_ports = _ports(root, wanted, ports)
        errors: list[Exception] = []
        writing = Lock()

        def begin(name: str, port: int) -> Service:
            service = _start(root, name, port)
            with writing:  # before it answers: `down` must find it whatever happens next
                services[name] = service
                daemons.write(root, there | services)
            return service

        def start(name: str) -> None:
            try:
                _begin(root, functools.partial(begin, name), own_ports[name])
            except Exception as error:  # a thread dies silently, and all would look well
                errors.append(error)

        # daemons: Ctrl-C leaves at once, and what was started is on record
        threads = [Thread(target=start, args=(name,), name=name, daemon=True) for name in wanted]
        for thread in threads:
            thread.start()
        _wait(threads, services, say)
        if errors:
            raise errors[0]
        for name in set(services) & set(PORTS) - set(wanted):
            _await_health(root, services[name])
        if url := services[PREFECT].url if PREFECT in wanted else elsewhere().get(PREFECT):
            crash_automation.watch(f"{url}/api", say)
        return {name: services[name] for name in sorted(services) if name in PORTS}


def _wait(threads: Sequence[Thread], services: Mapping[str, Service], say: Say) -> None:
    """Wait for threads, each of which starts the server of its name, and say for whom now and then."""
    started_s = said_s = time.monotonic()
    while any(thread.is_alive() for thread in threads):
        time.sleep(0.05)
        if time.monotonic() - said_s > SAY_EVERY_S:
            said_s = time.monotonic()
            names = [thread.name for thread in threads]
            waiting = [name for name in names if name not in services or not services[name].healthy]
            say(
                f"still starting after {said_s - started_s:.0f} s: {', '.join(waiting) or 'almost there'}"
                " (the first start creates the databases)"
            )


def down(root: Path) -> list[str]:
    """Stop every server and worker that was started here, with all its processes; return those that ran.

    The follower, which writes to the store, ends before the server.
    """
    with daemons.alone(root):
        follower.end(root)
        services = list(recorded(root).values())
        running = [service for service in services if service.members()]
        # workers first, while there is a server that can be told what becomes of their stages
        workers = [service for service in running if service.name.startswith(WORKER)]
        daemons.end(workers, signal.SIGTERM, WORKER_STOP_TIMEOUT_S, leaders_only=True)
        for number in (signal.SIGTERM, signal.SIGKILL):
            daemons.end(running, number, STOP_TIMEOUT_S)
        daemons.record(root).unlink(missing_ok=True)
        for service in running:
            if child := daemons.children.pop(service.pid, None):
                child.wait()
        return [service.name for service in running]


def _ports(root: Path, names: Sequence[str], ports: Mapping[str, int]) -> dict[str, int]:
    """Return a free port for each server, preferably its last one, and never the same for two."""
    former = {name: urlsplit(service.url).port for name, service in recorded(root).items()}
    found: dict[str, int] = {}
    for name in names:
        port = environment.free_port(former.get(name) or ports[name])
        while port in found.values():
            port = environment.free_port(0)
        found[name] = port
    return found


def _begin(root: Path, begin: Callable[[int], Service], port: int) -> None:
    """Start a server and wait until it answers; on another port if another program takes this one meanwhile."""
    service = begin(port)
    try:
        _await_health(root, service)
    except OperationError:
        if service.alive or environment.free_port(port) == port:
            raise
        daemons.end_remains(service)
        _await_health(root, begin(environment.free_port(0)))


def _start(root: Path, name: str, port: int) -> Service:
    """Start one server on a free port."""
    command, own = _commands(root, name, port)
    settings = environment.for_children() | environment.prefect_settings(root)
    settings.pop("PREFECT_API_URL", None)
    url = f"http://127.0.0.1:{command[command.index('--port') + 1]}"
    return daemons.spawn(root, name, url, command, settings | own)


def _commands(root: Path, name: str, port: int) -> tuple[list[str], dict[str, str]]:
    """Return the command line of a server and its environment."""
    here = ["--host", "127.0.0.1", "--port", str(port)]
    if name == PREFECT:
        own = {
            "PREFECT_UI_API_URL": f"http://127.0.0.1:{port}/api",
            "PREFECT_LOGGING_SERVER_LEVEL": "WARNING",
        }
        return [sys.executable, "-m", "prefect", "server", "start", *here], own
    folder = root / "tracking"
    folder.mkdir(exist_ok=True)
    # several processes that make this database at once break it for good: one does, before the server starts
    store = subprocess_client.initialise_store(root)
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        *here,
        "--workers",
        "1",
        "--backend-store-uri",
        store,
        "--serve-artifacts",
        "--artifacts-destination",
        (folder / "artifacts").as_uri(),
    ]
    # its job runner is seven more processes, which outlive the server; the gateway is for chat models
    return command, {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_ENABLE_AI_GATEWAY": "false"}


def flow_run_url(prefect_url: str, flow_run_id: str) -> str:
    """Return the address of a flow run in Prefect's UI."""
    return f"{environment.without_password(prefect_url)}/runs/flow-run/{flow_run_id}"


def _await_health(root: Path, service: Service) -> None:
    until_s = time.monotonic() + START_TIMEOUT_S
    log_path = daemons.log_of(root, service.name)
    # another program may have taken the port since it was chosen: its answer says nothing about ours
    while not (service.healthy and service.listens):
        if not service.alive:
            text = log_path.read_text(errors="replace") if log_path.is_file() else ""
            said = [line for line in text.splitlines() if "error" in line.lower()]
            last = environment.last_line("\n".join(said) or text)
            raise OperationError(f"the {service.name} server ended at once ({last}): see {log_path}")
        if time.monotonic() > until_s:
            raise OperationError(f"the {service.name} server did not answer in {START_TIMEOUT_S:.0f} s: see {log_path}")
        time.sleep(0.2)
