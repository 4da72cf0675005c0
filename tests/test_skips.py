"""The count of skipped tests, on small runs of pytest itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

pytestmark = pytest.mark.slow

CONFTEST = """
from pathlib import Path
from tests import skips

def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(skips.Counted(config, Path(__file__).with_name("skips.yaml")))
"""
TESTS = """
import pytest

def test_works():
    pass

@pytest.mark.parametrize("cat", ["black", "grey"])
def test_cats(cat):
    pytest.skip(f"no {cat} cat")

@pytest.mark.skipif(True, reason="no dog")
@pytest.mark.slow
def test_dogs():
    pass

@pytest.mark.xfail(reason="known", strict=True)
def test_known():
    raise ValueError
"""
TABLE = """
- {reason: "no (black|grey) cat", all: {alone: 2, shared: 1}, not slow: {alone: 2}}
- {reason: "no dog", all: {alone: 1, shared: 1}}
- {reason: "xfail: known", all: {alone: 1, shared: 1}, not slow: {alone: 1}}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "checks").mkdir(parents=True)
    (folder / "pytest.ini").write_text("[pytest]\ntestpaths = checks\nmarkers =\n    slow\n")
    (folder / "checks/conftest.py").write_text(CONFTEST)
    (folder / "checks/skips.yaml").write_text(TABLE)
    (folder / "checks/test_all.py").write_text(TESTS)
    return folder


def run(project: Path, *arguments: str) -> tuple[int, str]:
    # other plugins would take most of the time
    alone = {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(command, cwd=project, env=alone, capture_output=True, text=True, timeout=100, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("workers", [[], ["-p", "xdist", "-n", "2"]], ids=["here", "over workers"])
def test_what_the_table_knows_is_allowed_and_more_fails_with_its_reason(project: Path, workers: list[str]):
    code, printed = run(project, *workers)
    assert code == 0, printed
    (project / "checks/test_more.py").write_text("import pytest\npytest.skip('no network', allow_module_level=True)\n")
    code, printed = run(project, *workers)
    assert code == 1
    assert "1 reasons skipped more tests than skips.yaml allows: 1 (0 allowed): 'no network'" in printed


def test_the_count_depends_on_what_lies_beside_the_checkout(project: Path):
    (project.parent / "shared").mkdir()
    code, printed = run(project)
    assert code == 1
    assert "2 (1 allowed): 'no grey cat'" in printed


def test_an_expected_failure_that_nobody_knows_fails(project: Path):
    text = (project / "checks/skips.yaml").read_text()
    (project / "checks/skips.yaml").write_text(text.replace("xfail: known", "xfail: another"))
    code, printed = run(project)
    assert code == 1
    assert "1 (0 allowed): 'xfail: known'" in printed


def test_the_quick_selection_has_a_count_of_its_own(project: Path):
    assert run(project, "-m", "not slow")[0] == 0
    text = (project / "checks/skips.yaml").read_text()
    (project / "checks/skips.yaml").write_text(text.replace("not slow: {alone: 2}", "not slow: {alone: 1}"))
    assert run(project)[0] == 0
    assert run(project, "-m", "not slow")[0] == 1


@pytest.mark.parametrize("selection", [["checks/test_all.py"], ["-k", "cats"], ["-m", "slow"], ["--deselect", "checks/x.py"]])
def test_a_selection_is_not_counted(project: Path, selection: list[str]):
    (project / "checks/skips.yaml").write_text("[]")
    code, printed = run(project, *selection)
    assert code == 0, printed
