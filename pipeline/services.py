"""A project's servers, Prefect's and MLflow's: started once on loopback, ended whole, found through a file.

They belong to the project's folder, not to the shell that started them: each leads a session of its own, and
``.facet/services.json`` says which process that is (pid and time of birth, because pids come again).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock, Thread

import psutil

from pipeline import environment, recording

PREFECT, MLFLOW = "prefect", "mlflow"
PORTS = {PREFECT: 4200, MLFLOW: 5000}
HEALTH = {PREFECT: "/api/health", MLFLOW: "/health"}
START_TIMEOUT_S = 240.0
STOP_TIMEOUT_S = 20.0
SAY_EVERY_S = 10.0
# clocks are set while servers run; no pid comes again so soon
BIRTH_TOLERANCE_S = 5.0

Say = Callable[[str], None]

# those that this process started: they outlive us, so nobody waits for them; reaped if they end first
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True)
class Service:
    """A server that was started."""

    name: str
    url: str
    pid: int
    born: float
    """Seconds since the epoch, as the kernel tells it."""

    @property
    def alive(self) -> bool:
        """Whether the process that was started still runs."""
        if self.pid in _children:
            _children[self.pid].poll()
        try:
            process = psutil.Process(self.pid)
            return bool(self._is(process) and process.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False

    def _is(self, process: psutil.Process) -> bool:
        return bool(abs(process.create_time() - self.born) < BIRTH_TOLERANCE_S)

    @property
    def healthy(self) -> bool:
        """Whether it answers."""
        try:
            with urllib.request.urlopen(self.url + HEALTH[self.name], timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def members(self) -> list[psutil.Process]:
        """Return the living processes of its session: the server and all it started, also when it is dead."""
        if psutil.boot_time() > self.born + BIRTH_TOLERANCE_S:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            if not self._is(psutil.Process(self.pid)):
                # the pid is someone else's now: the kernel gives it only when the session is empty
                return []
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(ProcessLookupError, PermissionError, psutil.Error):
                if os.getsid(process.pid) == self.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found


def known(root: Path) -> dict[str, Service]:
    """Return the servers that are recorded and whose processes live, by name."""
    tree = environment.read_json(_record(root))
    services = {name: Service(**entry) for name, entry in tree.items()}
    return {name: service for name, service in services.items() if service.alive}


def up(root: Path, say: Say, ports: Mapping[str, int] = PORTS) -> dict[str, Service]:
    """Start what does not run yet, wait until all answer, and return it by name.

    Raises:
        RuntimeError: a server ended or did not answer in time; the message names its log.
    """
    with _alone(root):
        services = known(root)
        missing = [name for name in PORTS if name not in services]
        errors: list[Exception] = []
        recording = Lock()

        def start(name: str) -> None:
            try:
                service = _start(root, name, ports[name])
                with recording:  # before it answers: `down` must find it whatever happens next
                    services[name] = service
                    _write(root, services)
                _await_health(root, service)
            except (RuntimeError, OSError) as error:
                errors.append(error)

        # daemons: Ctrl-C leaves at once, and what was started is on record
        threads = [Thread(target=start, args=(name,), daemon=True) for name in missing]
        for thread in threads:
            thread.start()
        started_s = said_s = time.monotonic()
        while any(thread.is_alive() for thread in threads):
            time.sleep(0.05)
            if time.monotonic() - said_s > SAY_EVERY_S:
                said_s = time.monotonic()
                waiting = [name for name in missing if name not in services or not services[name].healthy]
                say(
                    f"still starting after {said_s - started_s:.0f} s: {', '.join(waiting) or 'almost there'}"
                    " (the first start makes the databases)"
                )
        if errors:
            raise errors[0]
        for name in set(services) - set(missing):
            _await_health(root, services[name])
        return dict(sorted(services.items()))


def down(root: Path) -> list[str]:
    """End every server that ``up`` started, with all its processes; return the names of those that ran."""
    with _alone(root):
        tree = environment.read_json(_record(root))
        services = [Service(**entry) for entry in tree.values()]
        running = [service for service in services if service.members()]
        for number, timeout_s in ((signal.SIGTERM, STOP_TIMEOUT_S), (signal.SIGKILL, STOP_TIMEOUT_S)):
            for service in running:
                for process in service.members():
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.send_signal(number)
            until_s = time.monotonic() + timeout_s
            while any(service.members() for service in running) and time.monotonic() < until_s:
                time.sleep(0.1)
        _record(root).unlink(missing_ok=True)
        for service in running:
            if child := _children.pop(service.pid, None):
                child.wait()
        return [service.name for service in running]


def _start(root: Path, name: str, port: int) -> Service:
    """Start one server, which then leads a session of its own and logs to a file."""
    log_path = environment.log_folder(root) / f"{name}-server.log"
    log_path.parent.mkdir(parents=True, exist_ok=True)
    settings = environment.for_children() | environment.prefect_settings(root)
    settings.pop("PREFECT_API_URL", None)
    with log_path.open("ab") as log:
        command, own = _commands(root, name, environment.free_port(port))
        process = subprocess.Popen(
            command,
            cwd=root,
            env=settings | own,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    _children[process.pid] = process
    url = f"http://127.0.0.1:{command[command.index('--port') + 1]}"
    return Service(name, url, process.pid, psutil.Process(process.pid).create_time())


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
    store = recording.initialise_store(root)
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
    # its job runner is seven more processes, which outlive the server
    return command, {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def flow_run_url(prefect_url: str, flow_run_id: str) -> str:
    """Return where Prefect shows a flow run."""
    return f"{prefect_url}/runs/flow-run/{flow_run_id}"


def _await_health(root: Path, service: Service) -> None:
    until_s = time.monotonic() + START_TIMEOUT_S
    log_path = environment.log_folder(root) / f"{service.name}-server.log"
    while not service.healthy:
        if not service.alive:
            text = log_path.read_text(errors="replace") if log_path.is_file() else ""
            raise RuntimeError(
                f"the {service.name} server ended at once ({recording.last_line(text)}): see {log_path}"
            )
        if time.monotonic() > until_s:
            raise RuntimeError(
                f"the {service.name} server gave no answer in {START_TIMEOUT_S:.0f} s: see {log_path}"
            )
        time.sleep(0.2)


def _record(root: Path) -> Path:
    return environment.state_folder(root) / "services.json"


def _write(root: Path, services: Mapping[str, Service]) -> None:
    environment.write_json(_record(root), {name: asdict(service) for name, service in services.items()})


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Keep a second `facet up` or `facet down` of this project waiting."""
    path = environment.state_folder(root) / "services.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
