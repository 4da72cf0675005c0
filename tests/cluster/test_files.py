"""deploy/: what Docker Compose and Kubernetes are told agrees with each other, with the image and with this program."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from tests.cluster import servers
from tests.support import ROOT

DEPLOY = ROOT / "deploy"


def pods() -> dict[str, dict[str, Any]]:
    """Return the containers of kubernetes.yaml by name, those of the start as well."""
    found = {}
    for tree in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()):
        if pod := tree["spec"].get("template", {}).get("spec") if "spec" in tree else None:
            found |= {each["name"]: each for each in [*pod["containers"], *pod.get("initContainers", [])]}
    return found


def test_both_have_the_same_programs_with_the_same_arguments():
    services, containers = servers.compose()["services"], pods()
    assert set(containers) == set(services) - {"store"}
    for name, container in containers.items():
        if name != "database":  # PostgreSQL's image knows its own
            ours = [part.replace("${PASSWORD}", "$(PASSWORD)") for part in services[name]["command"]]
            assert [part.replace('"$GIT_REMOTE"', "/remote.git") for part in container["command"]] == ours


def test_all_but_the_database_and_the_store_are_the_image_of_the_dockerfile():
    for name, service in servers.compose()["services"].items():
        assert (service.get("image") == "facet") == (name not in ("database", "store"))
        assert ("build" in service) == (service.get("image") == "facet")
    assert {each["image"] for each in pods().values()} == {"facet", "postgres:17"}


def test_nothing_listens_outside_this_machine_unless_somebody_says_so():
    ports = [port for service in servers.compose()["services"].values() for port in service.get("ports", [])]
    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)
    kinds = [tree["spec"].get("type", "ClusterIP") for tree in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
             if tree["kind"] == "Service"]  # fmt: skip
    assert kinds == ["ClusterIP"] * 3


def test_no_password_is_written_down():
    for name in ("compose.yaml", "kubernetes.yaml"):
        for line in (DEPLOY / name).read_text().splitlines():
            if "PASSWORD" in line or "SECRET" in line:
                assert re.search(r"\$\{PASSWORD|\$\(PASSWORD\)|secretKeyRef|PASSWORD=\.\.\.|KEY=\.\.\.", line), line


def test_the_image_has_the_code_and_git_but_nothing_that_a_clone_has_made():
    left_out = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    ignored = {line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines() if line.startswith("/")}
    made = {name for name in ignored if not name.startswith(("results", ".venv"))}
    assert made <= set(left_out)
    assert {".venv*", "results/report"} <= set(left_out)
    assert ".git" not in left_out


def test_the_image_is_installed_as_readme_says():
    steps = (DEPLOY / "Dockerfile").read_text()
    extras = re.search(r'^RUN make install EXTRAS="([a-z0-9 ]+)"$', steps, re.MULTILINE)
    assert extras
    known = Path(ROOT / "pyproject.toml").read_text()
    assert all(re.search(rf"^{extra} = \[", known, re.MULTILINE) for extra in extras[1].split())
