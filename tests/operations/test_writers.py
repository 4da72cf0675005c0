"""Every function of facet that writes a file is run by the harness, or says why not."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.operations import table, writers
from tests.operations.cases import ALL
from tests.operations.exempt import EXEMPT
from tests.support import ROOT

SOURCE = """
from stages.runtime import artifacts, files
def plain(path): path.write_text("x")
def aside(path):
    with artifacts.write_folder(path) as folder:
        (folder / "a").write_text("x")
        with files.replacing(folder / "b") as b, b.open("w") as stream:
            stream.write("x")
def both(path):
    with artifacts.write_file(path) as one:
        path.with_name("other").write_bytes(b"")
def reads(path): return path.read_text().replace("a", "b"), path.open("rb"), path.open()
class Of:
    def saves(self, tree, path):
        def inner(): torch.save(tree, path)
        inner()
"""


def test_what_writes_is_found_and_what_is_written_aside_is_not() -> None:
    assert sorted(writers.of_module("m", ast.parse(SOURCE))) == ["m.Of.saves", "m.both", "m.plain"]


def test_every_writer_is_covered_or_says_why_not() -> None:
    found = set(writers.writers(ROOT))
    covered = {function for case in ALL.values() for function in case.covers}
    missing = sorted(found - covered - EXEMPT.keys())
    assert not missing, f"write a case in tests/operations for {missing}, or say in exempt.py why not"
    assert sorted(EXEMPT.keys() - found) == [], "exempt.py names what does not write"
    assert sorted(EXEMPT.keys() & covered) == []


def test_the_page_has_a_row_for_each_case() -> None:
    text = Path(ROOT, "docs/operations.md").read_text(encoding="utf-8")
    lines = text.partition(table.BEGIN)[2].partition(table.END)[0].splitlines()
    rows = [line.split(" | ")[0].removeprefix("| ") for line in lines if line.startswith("| ")]
    assert rows[1:] == list(ALL)
