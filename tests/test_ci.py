"""`.ci/run` as a new user, the workflow that starts it, and what is checked before a commit."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support import ROOT
from tests.test_installing import CLEAN, program

HOOKS = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
# writes down how it was called and puts a Python where the environment should be
MAKE = f"""#!{sys.executable}
import json, os, sys
from pathlib import Path
given = dict(argument.split("=", 1) for argument in sys.argv[2:])
home = os.environ["HOME"]
call = {{"target": sys.argv[1], **given, "environment": dict(os.environ), "in_home": os.listdir(home)}}
with open("calls", "a") as stream:
    stream.write(json.dumps(call) + "\\n")
python = Path(given["VENV"], "bin/python")
if not python.exists():
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\\necho == what python would print\\n")
    python.chmod(0o755)
# not the first of PATH: the environment's own programs may stand before it (facet_path.pth)
sys.exit(any(part.endswith("fails-at-" + sys.argv[1]) for part in os.environ["PATH"].split(":")))
"""


def run_ci(folder: Path, programs: Path, **environment: str) -> tuple[subprocess.CompletedProcess[str], list[dict]]:
    (folder / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/run", folder / ".ci")
    program(programs, "make", "").write_text(MAKE)
    for version in ("3.11", "3.13"):
        program(programs, f"python{version}", f"echo {version}")
    answer = subprocess.run(
        ["bash", ".ci/run"], cwd=folder, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        env={**CLEAN, "PATH": f"{programs}:{os.environ['PATH']}", **environment},
    )  # fmt: skip
    return answer, [json.loads(line) for line in (folder / "calls").read_text().splitlines()]


def test_ci_runs_both_commands_each_in_an_environment_of_its_own(tmp_path: Path):
    answer, calls = run_ci(tmp_path, tmp_path / "bin")
    assert answer.returncode == 0, answer.stderr
    assert [(call["target"], call["PYTHON"], call["VENV"]) for call in calls] == [
        (".venv/installed", "python3.11", ".venv"),
        ("test", "python3.11", ".venv"),
        (".venv-3.13/installed", "python3.13", ".venv-3.13"),
        ("check", "python3.13", ".venv-3.13"),
    ]


def test_ci_has_an_empty_home_and_no_package_settings_of_the_machine(tmp_path: Path):
    settings = {"PIP_FIND_LINKS": "/wheels", "UV_TORCH_BACKEND": "cpu", "UV_INDEX": "http://127.0.0.1:1/simple"}
    other = {"PYTHONPATH": "/somewhere", "VIRTUAL_ENV": "/somewhere", "HTTPS_PROXY": "http://127.0.0.1:1", "MAKEFLAGS": ""}
    _, calls = run_ci(tmp_path, tmp_path / "bin", **settings, **other)
    environment = calls[0]["environment"]
    assert calls[0]["in_home"] == []
    assert environment["HOME"] != os.environ.get("HOME")
    assert not Path(environment["HOME"]).exists(), "the home should be removed when CI ends"
    named = {name: value for name, value in environment.items() if name.startswith(("PIP_", "UV_", "PYTHON", "VIRTUAL"))}
    assert named == {"PIP_CONFIG_FILE": "/dev/null", "UV_NO_SYSTEM_CONFIG": "1", "UV_PYTHON_DOWNLOADS": "never"}
    assert environment["HTTPS_PROXY"] == "http://127.0.0.1:1"
    assert environment["CI"] == "true"


@pytest.mark.parametrize(("target", "number"), [("test", 2), ("check", 4)])
def test_ci_fails_with_the_command_that_fails(tmp_path: Path, target: str, number: int):
    answer, calls = run_ci(tmp_path, tmp_path / f"fails-at-{target}")
    assert answer.returncode != 0
    assert len(calls) == number


def test_the_workflow_runs_that_and_nothing_else():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    (job,) = workflow["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == ["bash .ci/run"]
    (pythons,) = (step["with"]["python-version"] for step in job["steps"] if "setup-python" in step.get("uses", ""))
    assert set(pythons.split()) == {"3.11", "3.13"}


@pytest.mark.parametrize("hook", HOOKS, ids=[hook["id"] for hook in HOOKS])
def test_each_check_before_a_commit_passes_here(hook: dict):
    if hook["id"] == "lock" and not (shutil.which("uv") or (ROOT / ".venv-uv/bin/uv").exists()):
        pytest.skip("no uv on PATH or in .venv-uv: `make locked` brings it")
    first, *rest = shlex.split(hook["entry"])
    # whichever environment runs the tests
    command = [str(Path(sys.executable).with_name(Path(first).name)) if first.startswith(".venv/") else first, *rest]
    files = [] if hook.get("pass_filenames") is False else ["pipeline/entry.py", "tests/test_ci.py"]
    answer = subprocess.run([*command, *files], cwd=ROOT, capture_output=True, text=True, check=False, env=CLEAN)
    assert answer.returncode == 0, answer.stdout + answer.stderr
