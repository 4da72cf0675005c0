"""Every relative link of a Markdown page leads to a file of git's and a heading; every path of code in it is there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.support import ROOT

REPORT = "docs/report/"
"""Written by the stage `report`, with pages of its own."""
FENCE = re.compile(r"^( {0,3}|> )(`{3,}|~{3,}).*?^\1\2", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(`+)(?:(?!`).)+?\1")
HEADING = re.compile(r"^#{1,6} +(.+?)(?: +#+)?$", re.MULTILINE)
# of images too; a title may follow the address
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)|^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)
CODE_PATH = re.compile(r"`((?:pipeline|stages)/[\w./{},-]+)`")
NEW_FILE = re.compile(r"^File `([^`]+)`:", re.MULTILINE)
"""Of the examples in CONTRIBUTING.md: a file that the reader is to write."""
ELSEWHERE = re.compile(r"^[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def tracked() -> set[str]:
    """Return the paths of all files that git has or would add, and of their folders."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\0")
    files = {name for name in listed if name and (ROOT / name).is_file()}
    return files | {str(folder) for name in files for folder in Path(name).parents}


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page.

    >>> sorted(anchors("# A `b`, c\\n## [d](e.md)\\n## A b c\\n")), anchors("```\\n# no\\n```\\n")
    (['a-b-c', 'a-b-c-1', 'd'], set())
    """
    found: set[str] = set()
    seen: list[str] = []
    for heading in HEADING.findall(FENCE.sub("", text)):
        shown = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        plain = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        again = sum(one == plain for one in seen)
        seen.append(plain)
        found.add(f"{plain}-{again}" if again else plain)
    return found


def links(text: str) -> list[str]:
    """Return the addresses of the links and images of a page, but for those in code."""
    prose = CODE.sub("", FENCE.sub("", text))
    return [one or other for one, other in LINK.findall(prose)]


def broken(page: Path, there: set[str]) -> list[str]:
    """Return the relative links of a page that lead nowhere."""
    found = []
    for address in links(page.read_text(encoding="utf-8")):
        if ELSEWHERE.match(address):
            continue
        path, _, anchor = unquote(address).partition("#")
        target = (page.parent / path).resolve() if path else page
        known = target.is_relative_to(ROOT) and str(target.relative_to(ROOT)) in there
        if not known or (anchor and target.suffix == ".md" and anchor not in anchors(target.read_text(encoding="utf-8"))):
            found.append(address)
    return found


def missing_code(text: str, there: set[str]) -> list[str]:
    """Return the paths under pipeline/ and stages/ that a page names in backquotes and that are not there.

    A name in capitals stands for others (``stages/datasets/LAYOUT.py``).

    >>> missing_code("`stages/a.py` `stages/{a,b}.py` `stages/NAME.py` `pipeline/x/`", {"stages/a.py", "pipeline/x"})
    ['stages/b.py']
    """
    found = []
    for path in CODE_PATH.findall(text):
        before, brace, rest = path.partition("{")
        inside, _, after = rest.partition("}")
        found += [f"{before}{one}{after}" for one in inside.split(",")] if brace else [path.rstrip("/")]
    new = set(NEW_FILE.findall(text))
    return [path for path in found if not re.search("[A-Z]", path) and path not in there | new]


THERE = tracked()
PAGES = sorted(name for name in THERE if name.endswith(".md") and not name.startswith(REPORT))


@pytest.mark.parametrize("name", PAGES)
def test_every_relative_link_of_a_page_leads_somewhere(name: str):
    assert broken(ROOT / name, THERE) == []


@pytest.mark.parametrize("name", PAGES)
def test_every_path_of_code_that_a_page_names_is_there(name: str):
    assert missing_code((ROOT / name).read_text(encoding="utf-8"), THERE) == []


def test_the_pages_that_lead_a_reader_are_among_them():
    assert {"README.md", "CONTRIBUTING.md", "AGENTS.md", "docs/README.md", "docs/architecture.md"} <= set(PAGES)


def test_the_index_of_docs_names_every_page():
    index = ROOT / "docs/README.md"
    named = {str((index.parent / one.partition("#")[0]).resolve().relative_to(ROOT)) for one in links(index.read_text())
             if not ELSEWHERE.match(one)}
    pages = {name for name in PAGES if name.startswith("docs/")} - {"docs/README.md"}
    assert pages - named == set()


def test_the_index_of_docs_lists_the_decisions_by_number_with_their_titles():
    listed = re.findall(r"^- \[(\d{4})\]\((decisions/\S+)\): (.+)$", (ROOT / "docs/README.md").read_text(), re.MULTILINE)
    titles = [(ROOT / "docs" / path).read_text().partition("\n")[0] for _, path, _ in listed]
    assert [number for number, _, _ in listed] == sorted(path.name[:4] for path in (ROOT / "docs/decisions").glob("*.md"))
    assert titles == [f"# {number}. {title}" for number, _, title in listed]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("[a](gone.md)", ["gone.md"]),
        ("[a](page.md#gone) [b](#here) [c](page.md#here)", ["page.md#gone"]),
        ("![picture](gone.png)", ["gone.png"]),
        ("[a]: gone.md\n", ["gone.md"]),
        ("`[a](gone.md)` and [b](https://example.org/gone)\n\n```\n[c](gone.md)\n```\n", []),
        ("[outside](../../../../etc/passwd)", ["../../../../etc/passwd"]),
    ],
)
def test_a_link_that_leads_nowhere_is_found(
    text: str, wrong: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(f"# Here\n\n{text}\n", encoding="utf-8")
    assert broken(page, {"page.md"}) == wrong
