"""docs/variables.md names the variables of the environment that the code and the Makefile have, and no others."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support import ROOT

PAGE = ROOT / "docs/variables.md"
NAME = re.compile(r"\bFACET_[A-Z]+(?:_[A-Z]+)*")
FOLDERS = ("pipeline", "stages", "tests", "benchmarks", "graph")


def files() -> list[Path]:
    """Return what may name a variable: our code, the graph and the Makefile."""
    found = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*")) if path.suffix in (".py", ".yaml")]
    return [ROOT / "Makefile", ROOT / "dvc.yaml", *found]


def test_the_page_has_every_variable_of_the_code_and_the_code_every_one_of_the_page():
    in_code = {name: path for path in files() for name in NAME.findall(path.read_text(encoding="utf-8"))}
    on_page = set(re.findall(r"^\| `(FACET_[A-Z_]+)`", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    missing = {name: str(path.relative_to(ROOT)) for name, path in in_code.items() if name not in on_page}
    assert missing == {}
    assert on_page - in_code.keys() == set()


def test_every_variable_has_a_line_of_its_own():
    lines = re.findall(r"^\| `(FACET_[A-Z_]+)`", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(lines) == len(set(lines))
