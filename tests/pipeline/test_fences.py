"""Insides of DVC and Prefect are used in one module each, and another release is reported in one sentence."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.base import versions
from pipeline.execution import dvc_patches
from pipeline.flow import prefect_patches
from tests.support import ROOT

FENCED = {"execution/dvc_patches.py", "flow/prefect_patches.py", "tracking/store.py"}  # the last is MLflow's
OWN = {"self", "cls", "other"}


def is_own(value: ast.expr) -> bool:
    """Whether a private name belongs to the object itself, or to one that the module has just made."""
    made = value.func if isinstance(value, ast.Call) else None
    return isinstance(made, ast.Name) or (isinstance(value, ast.Name) and value.id in OWN)


def private_names(path: Path) -> list[str]:
    """Return the names with an underscore of other people's modules and objects that a module uses."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and not (node.module or "").startswith(("pipeline", "stages", "__future__")):
            found += [alias.name for alias in node.names if alias.name.startswith("_")]
        private = isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__")
        if private and ast.unparse(node) != "os._exit" and not is_own(node.value):
            found.append(ast.unparse(node))
    return found


def test_no_other_module_uses_private_names_of_a_library() -> None:
    room = ROOT / "pipeline"
    modules = {path.relative_to(room).as_posix(): private_names(path) for path in sorted(room.rglob("*.py"))}
    assert modules.keys() > FENCED
    assert {name: names for name, names in modules.items() if names and name not in FENCED} == {}
    assert modules["execution/dvc_patches.py"]
    assert modules["tracking/store.py"]
    assert not any("unittest.mock" in (room / name).read_text() for name in modules.keys() - FENCED)


@pytest.mark.parametrize(("package", "made_for"), [("dvc", dvc_patches.MADE_FOR), ("prefect", prefect_patches.MADE_FOR)])
def test_the_installed_release_is_the_one_that_the_patches_were_made_for(package: str, made_for: str) -> None:
    assert versions.difference(package, made_for) == ""


def test_another_release_is_reported_once_and_where_it_ran_before(tmp_path: Path) -> None:
    code = (
        "from pipeline.execution import dvc_patches; from pipeline.flow import prefect_patches\n"
        "dvc_patches.MADE_FOR = prefect_patches.MADE_FOR = '1.2'\n"
        "for _ in range(2): dvc_patches.check(); prefect_patches.check()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    dvc, prefect = done.stderr.splitlines()
    assert dvc.startswith("warning: facet changes insides of dvc 1.2, and here is dvc 3.")
    assert prefect.startswith("warning: facet changes insides of prefect 1.2, and here is prefect 3.")
    assert prefect.endswith("`pip install 'prefect==1.2.*'` if something fails")
