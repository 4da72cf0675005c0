"""Addresses with a login in what people and files see, and the environment of what is started."""

from __future__ import annotations

import http.server
import os
import pwd
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pipeline.base import environment
from pipeline.base.workspace import of_project
from pipeline.servers import servers
from pipeline.tracking import recorded_ids
from tests.support import ROOT

SECRET = "p@ss/w#rd?x"
DATABASE = f"postgresql+psycopg2://me:{SECRET}@db.example:5432/mlflow?sslmode=require&password=other"


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        (DATABASE, "postgresql+psycopg2://db.example:5432/mlflow"),
        (f"https://me:{SECRET}@mlflow.example/team", "https://mlflow.example/team"),
        ("https://token@mlflow.example", "https://mlflow.example"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("sqlite:////srv/a@b/mlflow.db", "sqlite:////srv/a@b/mlflow.db"),
        ("/srv/mlruns", "/srv/mlruns"),
    ],
)
def test_an_address_for_people_has_no_login(address: str, wanted: str):
    assert environment.without_password(address) == wanted


def test_a_message_about_an_address_has_no_login():
    said = f"could not connect to {DATABASE} as me:{SECRET}"
    assert environment.without_passwords(said, DATABASE, None) == (
        "could not connect to postgresql+psycopg2://db.example:5432/mlflow as ***"
    )


def test_a_database_as_tracking_store_is_named_without_its_login_and_never_linked(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DATABASE)
    there = servers.elsewhere()[servers.MLFLOW]
    assert SECRET not in there
    where = of_project(tmp_path_factory.mktemp("project"))
    assert recorded_ids.run_links(where, there) == {}
    assert recorded_ids.experiment_links(where, there, ["heads"]) == {}
    assert not recorded_ids.has_pages(there)


def test_a_flow_runs_link_has_no_login():
    assert servers.flow_run_url(f"http://me:{SECRET}@prefect.example", "7") == "http://prefect.example/runs/flow-run/7"


def test_what_is_started_does_not_work_on_the_repository_of_a_hook(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    hook = {"GIT_DIR": "/srv/other/.git", "GIT_INDEX_FILE": "/srv/other/.git/index", "GIT_PREFIX": "src/"}
    for name, value in hook.items():
        monkeypatch.setenv(name, value)
    # what people and CI set for git itself stays
    monkeypatch.setenv("GIT_CONFIG_COUNT", "0")
    children = environment.for_children()
    assert not hook.keys() & children.keys()
    assert children["GIT_CONFIG_COUNT"] == "0"
    monkeypatch.setattr("os.environ", dict(os.environ))
    environment.enter(tmp_path)
    assert not hook.keys() & os.environ.keys()
    assert os.environ["PATH"] == children["PATH"]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, None),
        ({"HTTPS_PROXY": ""}, None),
        ({"http_proxy": "http://proxy:3128"}, "127.0.0.1,localhost,::1"),
        ({"ALL_PROXY": "socks5://proxy", "NO_PROXY": "corp.example, localhost"}, "corp.example,localhost,127.0.0.1,::1"),
        ({"http_proxy": "http://proxy:3128", "no_proxy": "*"}, "*"),
    ],
)
def test_a_proxy_is_not_asked_for_this_machine(given: dict[str, str], wanted: str | None):
    children = environment.for_children({"PATH": "/bin", **given})
    assert children.get("no_proxy") == wanted
    if wanted != "*":
        assert children.get("NO_PROXY") == wanted


def test_a_server_on_this_machine_answers_although_there_is_a_proxy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("os.environ", {**os.environ, "http_proxy": "http://127.0.0.1:9"})
    for name in ("no_proxy", "NO_PROXY"):
        os.environ.pop(name, None)
    environment.enter(tmp_path)
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/pyproject.toml"
        asked = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=20).status)"
        answer = subprocess.run(
            [sys.executable, "-c", asked, address], env=environment.for_children(), capture_output=True, text=True, check=False
        )
    assert (answer.stdout, answer.stderr) == ("200\n", "")


def unknown(user: int) -> KeyError:
    raise KeyError(f"getpwuid(): uid not found: {user}")


def test_a_user_that_the_system_does_not_know_has_a_home_and_a_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    known = ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME")
    monkeypatch.setattr("os.environ", {name: value for name, value in os.environ.items() if name not in known})
    environment.enter(tmp_path)
    assert Path.home() == tmp_path / ".facet/home"
    children = environment.for_children()
    assert (children["HOME"], children["LOGNAME"]) == (str(tmp_path / ".facet/home"), f"uid{os.getuid()}")


def test_a_home_that_there_is_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("os.environ", {**os.environ, "HOME": "/srv/home"})
    environment.enter(tmp_path)
    assert os.environ["HOME"] == "/srv/home"


def test_dvc_of_an_environment_that_nobody_activated_runs_its_own_python(tmp_path: Path):
    line = Path(environment.__file__).with_name("facet_path.pth")
    site_packages, project = tmp_path / "site-packages", tmp_path / "project"
    site_packages.mkdir()
    project.mkdir()
    shutil.copy(line, site_packages)
    (project / "dvc.yaml").write_text("stages:\n  which:\n    cmd: python -c 'import sys; print(sys.prefix)' > out\n    outs: [out]\n")
    # what Python does with site-packages as it starts, then what the program `dvc` does
    code = f"import site; site.addsitedir({str(site_packages)!r}); from dvc.cli import main; exit(main({{}}))"
    kept = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "DVC_NO_ANALYTICS": "1"}
    for words in ("['init', '--no-scm']", "['repro']"):
        answer = subprocess.run(
            [sys.executable, "-c", code.format(words)], cwd=project, env=kept, capture_output=True, text=True, check=False
        )
        assert answer.returncode == 0, answer.stderr
    assert (project / "out").read_text() == f"{sys.prefix}\n"


def test_make_install_puts_that_line_into_the_environment():
    made = subprocess.run(["make", "-n", "-W", "uv.lock", "install"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    assert "cp pipeline/base/facet_path.pth" in made
