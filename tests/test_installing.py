"""What `make install` takes, and what happens where facet cannot run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support import ROOT

LOCK = tomllib.loads((ROOT / "uv.lock").read_text())
# `make test VENV=...` hands its own settings on to what it starts
OF_MAKE = ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "VENV", "PYTHON", "UV_TORCH_BACKEND")
CLEAN = {name: value for name, value in os.environ.items() if name not in OF_MAKE}
LOCKED = [package for package in LOCK["package"] if package["name"] != "facet"]


def make(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, env={**CLEAN, **environment}
    )


def program(folder: Path, name: str, script: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_every_locked_file_is_pypis_and_has_a_digest():
    assert {package["source"]["registry"] for package in LOCKED} == {"https://pypi.org/simple"}
    files = [file for package in LOCKED for file in [*package.get("wheels", []), *filter(None, [package.get("sdist")])]]
    assert len(files) > len(LOCKED)
    odd = [file for file in files if not file["url"].startswith("https://files.pythonhosted.org/") or "hash" not in file]
    assert odd == []


def test_every_locked_package_has_a_file_for_both_processors():
    def fits(url: str, processor: str) -> bool:
        return url.endswith("-none-any.whl") or ("linux" in url and processor in url)

    lacking = [
        (package["name"], processor)
        for package in LOCKED
        for processor in ("x86_64", "aarch64")
        if "sdist" not in package and not any(fits(wheel["url"], processor) for wheel in package["wheels"])
    ]
    assert lacking == []


def test_pyproject_takes_patch_releases_alone_of_what_facet_stands_on():
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    versions = {package["name"]: package["version"].split(".") for package in LOCKED}
    for name in ("dvc", "mlflow", "prefect"):
        major, minor, patch = versions[name]
        assert f"{name}>={major}.{minor}.{patch},<{major}.{int(minor) + 1}" in wanted


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_the_command_ends_with_a_sentence_where_there_is_no_linux(system: str):
    code = f"import sys; sys.platform = {system!r}; sys.modules['fcntl'] = None; from pipeline.entry import main; main()"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert answer.stderr.startswith(f"error: facet needs Linux (prctl, flock, pidfd) and this is {system}: use ")
    assert answer.stderr.count("\n") == 1


def test_the_installed_command_is_the_one_that_looks_at_the_system():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"facet": "pipeline.entry:main"}
    answer = subprocess.run(
        [sys.executable, "-c", "from pipeline.entry import main; main()", "--help"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert answer.returncode == 0
    assert "Usage:" in answer.stdout


def test_make_ends_with_a_sentence_where_there_is_no_linux(tmp_path: Path):
    program(tmp_path, "uname", "echo Darwin")
    answer = make("--dry-run", "install", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert answer.returncode == 2
    assert "facet needs Linux and this is Darwin: use WSL 2" in answer.stderr
    assert answer.stdout == ""


def test_a_python_that_does_not_start_or_does_not_fit_is_passed_over(tmp_path: Path):
    for name in ("python3.11", "python3.12"):
        program(tmp_path, name, "echo 'pyenv: no such command' >&2; exit 127")
    (tmp_path / "python3.13").symlink_to(sys.executable)
    answer = make("--dry-run", "install", f"VENV={tmp_path}/new", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert f"--python python3.13 {tmp_path}/new" in answer.stdout, answer.stderr


def test_without_a_python_make_says_which_it_wants(tmp_path: Path):
    for name in ("sh", "uname", "cat", "sed", "test"):
        (tmp_path / name).symlink_to(shutil.which(name) or "")
    program(tmp_path, "python3", "exit 1")  # too old
    project = tmp_path / "project"
    project.mkdir()
    for name in ("Makefile", "pyproject.toml", "uv.lock"):
        shutil.copy(ROOT / name, project)
    answer = subprocess.run(
        [shutil.which("make") or "make", "install"], cwd=project, capture_output=True, text=True, check=False,
        env={"PATH": str(tmp_path)},
    )  # fmt: skip
    assert answer.returncode == 2
    assert "facet needs Python 3.11, 3.12 or 3.13 and none is on PATH" in answer.stdout


class TestTorchBackend:
    """`make install` with a uv that writes down how it was called."""

    @pytest.fixture
    def project(self, tmp_path: Path) -> Path:
        for name in ("Makefile", "pyproject.toml", "uv.lock"):
            shutil.copy(ROOT / name, tmp_path)
        (tmp_path / "pipeline/base").mkdir(parents=True)
        shutil.copy(ROOT / "pipeline/base/facet_path.pth", tmp_path / "pipeline/base")
        python = f"{tmp_path}/.venv/bin"
        # a Python that is asked for its folder of packages alone
        program(tmp_path, "python", f"echo {tmp_path}")
        made = f"mkdir -p {python}; cp {tmp_path}/python {python}"
        program(tmp_path / "bin", "uv", f'echo "$*" >> {tmp_path}/calls; {made}')
        return tmp_path

    def calls(self, project: Path, **environment: str) -> list[str]:
        (project / "calls").write_text("")
        path = f"{project}/bin:{os.environ['PATH']}"
        subprocess.run(
            ["make", "install"], cwd=project, check=True, capture_output=True, env={**CLEAN, "PATH": path, **environment}
        )
        return [line for line in (project / "calls").read_text().splitlines() if not line.startswith("python dir")]

    def test_unset_it_takes_what_is_locked(self, project: Path):
        calls = self.calls(project)
        assert [call for call in calls if "torch" in call] == []
        assert any("--require-hashes" in call for call in calls)

    def test_set_it_takes_the_locked_version_from_pytorchs_index(self, project: Path):
        calls = self.calls(project, UV_TORCH_BACKEND="cpu")
        (version,) = (package["version"] for package in LOCKED if package["name"] == "torch")
        assert any(call.startswith("export ") and "--prune torch" in call for call in calls)
        assert f"pip install --python .venv --torch-backend cpu torch=={version}" in calls

    def test_it_is_remembered_when_the_lock_changes(self, project: Path):
        self.calls(project, UV_TORCH_BACKEND="cpu")
        assert self.calls(project) == []
        (project / ".venv/installed").touch()
        os.utime(project / ".venv/installed", (0, 0))
        assert any("--torch-backend cpu" in call for call in self.calls(project))
