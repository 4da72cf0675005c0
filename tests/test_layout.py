"""The layout of the source tree: empty package files, and limits on files and folders."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT

MAX_LINES = 300
MAX_MODULES = 25
PACKAGES = ("pipeline", "stages")


def modules(package: str) -> Iterator[Path]:
    """Yield the .py files of a package, the hidden ones apart."""
    for path in sorted((ROOT / package).rglob("*.py")):
        if not any(part.startswith(".") for part in path.relative_to(ROOT).parts):
            yield path


def statements_beside_docstring(text: str) -> list[str]:
    """Return the statements of a module, its docstring apart."""
    body = ast.parse(text).body
    starts_with_docstring = body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)
    return [ast.unparse(statement) for statement in body[1 if starts_with_docstring else 0 :]]


def long_files(folder: Path) -> dict[str, int]:
    """Return the .py files with too many lines below a folder, and how many they have."""
    lines = {path: len(path.read_bytes().splitlines()) for path in folder.rglob("*.py")}
    return {str(path.relative_to(folder)): count for path, count in lines.items() if count > MAX_LINES}


def full_folders(folder: Path) -> dict[str, int]:
    """Return the folders with too many modules, a folder itself included; a package's __init__.py is not counted."""
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    counts = {path: sum(1 for file in path.glob("*.py") if file.name != "__init__.py") for path in folders}
    return {str(path.relative_to(folder.parent)): count for path, count in counts.items() if count > MAX_MODULES}


def test_package_files_of_stages_hold_a_docstring_only_as_deps_do_not_name_them() -> None:
    found = {path: path.read_text(encoding="utf-8") for path in modules("stages") if path.name == "__init__.py"}
    assert len(found) > 20
    filled = {path.relative_to(ROOT).as_posix(): statements_beside_docstring(text) for path, text in found.items()}
    assert {name: statements for name, statements in filled.items() if statements} == {}
    assert [name for name, path in zip(filled, found, strict=True) if not ast.get_docstring(ast.parse(found[path]))] == []


def test_every_folder_with_modules_of_stages_is_a_package() -> None:
    assert {path.parent for path in modules("stages") if not (path.parent / "__init__.py").is_file()} == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_no_file_is_too_long_and_no_folder_too_full(package: str) -> None:
    assert long_files(ROOT / package) == {}
    assert full_folders(ROOT / package) == {}


def test_a_filled_package_file_a_long_file_and_a_full_folder_are_found(tmp_path: Path) -> None:
    assert statements_beside_docstring('"""Doc."""\nimport os\nX = 1\n') == ["import os", "X = 1"]
    assert statements_beside_docstring('X = "no docstring"\n') == ["X = 'no docstring'"]
    room = tmp_path / "package" / "room"
    room.mkdir(parents=True)
    for number in range(MAX_MODULES):
        (room / f"m{number}.py").write_text("\n" * MAX_LINES)
    (room / "__init__.py").write_text("")
    assert (long_files(room.parent), full_folders(room.parent)) == ({}, {})
    (room / "m0.py").write_text("\n" * (MAX_LINES + 1))
    (room / "one_more.py").write_text("")
    assert long_files(room.parent) == {"room/m0.py": MAX_LINES + 1}
    assert full_folders(room.parent) == {"package/room": MAX_MODULES + 1}
