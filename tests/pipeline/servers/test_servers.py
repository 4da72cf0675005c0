from __future__ import annotations

import os
import socket
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.base import environment
from pipeline.servers import daemons
from pipeline.servers import servers as services
from pipeline.servers.servers import Service
from tests.pipeline.dummy import wait_until, wait_until_dead

# a server as bad as they come: it starts a child that ignores SIGTERM, and dies without it
DEAF_CHILD = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(99)"
BAD_SERVER = f"""
import http.server, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {DEAF_CHILD!r}], stdout=subprocess.PIPE)
child.stdout.readline()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
"""
ANY_PORTS = {services.PREFECT: 0, services.MLFLOW: 0}


def get(url: str) -> tuple[int, str]:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.status, answer.read().decode()


@pytest.mark.slow
def test_both_servers_answer_on_loopback_and_show_their_pages(servers: dict[str, Service]) -> None:
    assert sorted(servers) == ["mlflow", "prefect"]
    for service in servers.values():
        assert service.url.startswith("http://127.0.0.1:")
        assert service.alive
        assert service.healthy
        status, page = get(service.url)
        assert status == 200
        assert service.name in page.lower()


@pytest.mark.slow
def test_the_prefect_page_asks_its_own_server(servers: dict[str, Service]) -> None:
    _, settings = get(servers["prefect"].url + "/ui-settings")
    assert f'"api_url":"{servers["prefect"].url}/api"' in settings.replace(" ", "")


@pytest.mark.slow
def test_servers_lead_sessions_of_their_own_and_start_no_job_runners(servers: dict[str, Service]) -> None:
    for service in servers.values():
        assert os.getsid(service.pid) == service.pid
        assert os.getsid(service.pid) != os.getsid(0)
    commands = [" ".join(process.cmdline()) for process in servers["mlflow"].members()]
    assert not [command for command in commands if "huey" in command or "_job_runner" in command]


@pytest.mark.slow
def test_a_second_up_starts_nothing(servers: dict[str, Service], server_root: Path) -> None:
    said: list[str] = []
    assert services.up(server_root, said.append) == servers
    assert said == []


@pytest.mark.slow
def test_the_files_of_both_servers_lie_in_the_project(servers: dict[str, Service], server_root: Path) -> None:
    assert (server_root / ".facet/prefect/prefect.db").is_file()
    assert (server_root / "tracking/mlflow.db").is_file()
    assert (server_root / ".facet/logs/prefect-server.log").is_file()


@pytest.fixture
def bad_servers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A project whose servers are bad ones."""

    def commands(root: Path, name: str, port: int) -> tuple[list[str], dict[str, str]]:
        return [sys.executable, "-c", BAD_SERVER, "--port", str(port)], {}

    monkeypatch.setattr(services, "_commands", commands)
    monkeypatch.setattr(services, "STOP_TIMEOUT_S", 1.0)
    monkeypatch.setattr(services, "WORKER_STOP_TIMEOUT_S", 1.0)
    yield tmp_path
    services.down(tmp_path)


def ignore(line: str) -> None:
    """Nobody listens."""


def test_down_leaves_no_process_however_badly_a_server_ends(bad_servers: Path) -> None:
    started = services.up(bad_servers, ignore, ANY_PORTS)
    members = [process for service in started.values() for process in service.members()]
    assert len(members) == 4
    assert sorted(services.down(bad_servers)) == ["mlflow", "prefect"]
    assert [process for service in started.values() for process in service.members()] == []
    assert services.known(bad_servers) == {}
    assert services.down(bad_servers) == []


def test_children_of_a_dead_server_are_ended_too(bad_servers: Path) -> None:
    started = services.up(bad_servers, ignore, ANY_PORTS)
    prefect = started["prefect"]
    (child,) = psutil.Process(prefect.pid).children()
    os.kill(prefect.pid, 9)
    wait_until_dead(prefect.pid)
    assert "prefect" not in services.known(bad_servers)
    assert sorted(services.down(bad_servers)) == ["mlflow", "prefect"]
    wait_until_dead(child.pid)


def test_up_starts_again_what_has_died(bad_servers: Path) -> None:
    first = services.up(bad_servers, ignore, ANY_PORTS)
    for process in first["prefect"].members():
        process.kill()
    wait_until_dead(first["prefect"].pid)
    second = services.up(bad_servers, ignore, ANY_PORTS)
    assert second["mlflow"] == first["mlflow"]
    assert second["prefect"].pid != first["prefect"].pid
    assert second["prefect"].healthy


def test_up_ends_what_a_dead_server_left_running(bad_servers: Path) -> None:
    first = services.up(bad_servers, ignore, ANY_PORTS)
    (child,) = psutil.Process(first["prefect"].pid).children()
    os.kill(first["prefect"].pid, 9)
    wait_until_dead(first["prefect"].pid)
    second = services.up(bad_servers, ignore, ANY_PORTS)
    wait_until_dead(child.pid)
    assert second["mlflow"] == first["mlflow"]
    assert second["prefect"].url == first["prefect"].url
    services.down(bad_servers)
    assert [process for one in (*first.values(), *second.values()) for process in one.members()] == []


def test_a_worker_that_is_added_makes_nobody_forget_what_the_dead_left(bad_servers: Path) -> None:
    prefect = services.up(bad_servers, ignore, ANY_PORTS)["prefect"]
    (child,) = psutil.Process(prefect.pid).children()
    os.kill(prefect.pid, 9)
    wait_until_dead(prefect.pid)
    # each worker leaves a child, as one whose stage outlives it
    command = [sys.executable, "-c", "import subprocess, sys; subprocess.run(['sleep', '99'])"]
    workers = []
    for _ in range(2):
        worker = daemons.add(bad_servers, "worker cpu:0", command, dict(os.environ))
        wait_until(lambda worker=worker: len(worker.members()) == 2)
        os.kill(worker.pid, 9)
        wait_until_dead(worker.pid)
        workers.append(worker)
    assert workers[0].members() == []
    assert sorted(services.down(bad_servers)) == ["mlflow", "prefect", "worker cpu:0"]
    wait_until_dead(child.pid)
    assert workers[1].members() == []


@pytest.fixture
def ssh_port() -> Iterator[int]:
    """A port where something answers that is not HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
                    connection.recv(1 << 12)

        thread = threading.Thread(target=answer)
        thread.start()
        yield int(server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def test_an_answer_that_is_no_http_is_no_health(
    bad_servers: Path, ssh_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not Service("mlflow", f"http://127.0.0.1:{ssh_port}", os.getpid(), 0.0).healthy
    monkeypatch.setenv("PREFECT_API_URL", "http://desk:4200/api")
    monkeypatch.setattr(services, "_ports", lambda root, names, ports: {"mlflow": ssh_port})
    started = services.up(bad_servers, ignore, ANY_PORTS)
    assert started["mlflow"].alive
    assert started["mlflow"].url != f"http://127.0.0.1:{ssh_port}"


def test_no_error_of_a_starting_server_is_lost(bad_servers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(root: Path, service: Service) -> None:
        raise LookupError("of a kind that nobody thought of")

    monkeypatch.setattr(services, "_await_health", broken)
    with pytest.raises(LookupError, match="nobody thought of"):
        services.up(bad_servers, ignore, ANY_PORTS)


def test_two_servers_that_want_one_port_get_two(bad_servers: Path) -> None:
    wanted = environment.free_port(0)
    started = services.up(bad_servers, ignore, {services.PREFECT: wanted, services.MLFLOW: wanted})
    assert all(service.alive for service in started.values())
    assert len({service.url for service in started.values()}) == 2
    assert f"http://127.0.0.1:{wanted}" in {service.url for service in started.values()}


def test_a_server_whose_port_was_taken_as_it_started_gets_another(
    bad_servers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = services.up(bad_servers, ignore, ANY_PORTS)
    taken = {name: int(service.url.rpartition(":")[2]) for name, service in others.items()}
    monkeypatch.setattr(services, "_ports", lambda root, names, ports: taken)  # free a moment ago, and no more
    started = services.up(bad_servers / "other", ignore, ANY_PORTS)
    assert all(service.alive and service.listens for service in started.values())
    assert not {service.url for service in started.values()} & {service.url for service in others.values()}
    services.down(bad_servers / "other")


def test_a_server_that_ends_by_itself_is_not_started_again(bad_servers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []

    def ends(root: Path, name: str, port: int) -> tuple[list[str], dict[str, str]]:
        begun.append(name)
        return [sys.executable, "-c", "raise SystemExit('an error of its own')", "--port", str(port)], {}

    monkeypatch.setattr(services, "_commands", ends)
    monkeypatch.setenv("PREFECT_API_URL", "http://desk:4200/api")
    with pytest.raises(RuntimeError, match=r"mlflow server ended at once \(an error of its own\)"):
        services.up(bad_servers, ignore, ANY_PORTS)
    assert begun == ["mlflow"]


def test_a_record_from_before_a_reboot_harms_nobody(tmp_path: Path) -> None:
    # this very process has the pid that the server had then
    stale = {
        "name": "prefect",
        "url": "http://127.0.0.1:1",
        "pid": os.getpid(),
        "born": psutil.boot_time() - 999,
    }
    environment.write_json(tmp_path / ".facet/services.json", {"prefect": stale})
    assert services.known(tmp_path) == {}
    assert services.down(tmp_path) == []
    assert not (tmp_path / ".facet/services.json").exists()


@pytest.mark.parametrize("pid", [-1, 0])
def test_a_damaged_record_of_a_server_names_no_process(tmp_path: Path, pid: int) -> None:
    entry = {"name": "prefect", "url": "http://127.0.0.1:1", "pid": pid, "born": 1.0}
    environment.write_json(tmp_path / ".facet/services.json", {"prefect": entry})
    assert services.down(tmp_path) == []


def test_a_pid_that_came_again_is_not_ours(tmp_path: Path) -> None:
    born = psutil.Process().create_time() - 60
    service = Service("prefect", "http://127.0.0.1:1", os.getpid(), born)
    assert not service.alive
    assert service.members() == []


def test_a_server_that_ends_at_once_is_reported_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def commands(root: Path, name: str, port: int) -> tuple[list[str], dict[str, str]]:
        return [sys.executable, "-c", "import sys; sys.exit('no such table')", "--port", str(port)], {}

    monkeypatch.setattr(services, "_commands", commands)
    with pytest.raises(
        RuntimeError, match=r"the \w+ server ended at once \(no such table\): see .*-server.log"
    ):
        services.up(tmp_path, ignore, ANY_PORTS)
    services.down(tmp_path)


def test_a_server_that_the_environment_names_is_not_started_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////srv/mlflow.db")  # a file is no server
    assert services.missing(tmp_path) == ["prefect", "mlflow"]
    monkeypatch.setenv("PREFECT_API_URL", "http://desk:4200/api")
    assert services.missing(tmp_path) == ["mlflow"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://desk:5000")
    assert services.up(tmp_path, ignore) == {}
    assert services.elsewhere() == {"prefect": "http://desk:4200", "mlflow": "http://desk:5000"}
