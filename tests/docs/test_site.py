"""The site's navigation and links; `make site` builds it, strictly, and is not part of the tests: mkdocs is an extra."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from tests.support import ROOT

REPOSITORY = "https://git.example.org/facet"


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "docs/site/hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def navigation() -> list[str]:
    """The pages that mkdocs.yml names. It is not parsed: it has a tag that only mkdocs reads."""
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    return re.findall(r": (\S+\.(?:md|html))$", text, re.MULTILINE)


def test_every_page_is_in_the_navigation_once(hooks: ModuleType):
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}  # which is pages.md
    named = navigation()
    assert len(named) == len(set(named))
    assert set(named) == pages | set(hooks.JOINED.values()) | {"report/index.html"}


def test_every_page_that_joins_is_there(hooks: ModuleType):
    assert [name for name in hooks.JOINED if not (ROOT / name).is_file()] == []


def mended(hooks: ModuleType, text: str, uri: str, repository: str = "") -> str:
    files = [*(path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.*")), *hooks.JOINED.values()]
    page = SimpleNamespace(file=SimpleNamespace(src_uri=uri))
    config = SimpleNamespace(repo_url=repository, nav=[{"Home": "index.md"}, {"Guides": [{"GPUs and scale": "scale.md"}]}])
    return hooks.on_page_markdown(text, page, config, [SimpleNamespace(src_uri=one) for one in files])


@pytest.mark.parametrize(
    ("uri", "link", "wanted"),
    [
        ("index.md", "[a](docs/heads.md#exactness)", "[a](heads.md#exactness)"),
        ("index.md", "![a](docs/images/mlflow.png)", "[![a](images/mlflow.png)](images/mlflow.png)"),
        ("heads.md", "[a](scale.md)", "[a](scale.md)"),
        ("heads.md", "[a](../README.md)", "[a](index.md)"),
        ("decisions/0101-uv.md", "[a](../../CONTRIBUTING.md#add-a-head)", "[a](../project/contributing.md#add-a-head)"),
        ("project/contributing.md", "[a](docs/architecture.md#kinds)", "[a](../architecture.md#kinds)"),
        ("index.md", "[all](docs/README.md)", "[all](pages.md)"),
        ("heads.md", "[scale.md](scale.md#devices)", "[GPUs and scale](scale.md#devices)"),
        ("index.md", "[docs/scale.md](docs/scale.md)", "[GPUs and scale](scale.md)"),
        ("heads.md", "[params.yaml](../params.yaml)", "`params.yaml`"),
        ("heads.md", "[the program](../stages/heads/cosface.py)", "the program (`stages/heads/cosface.py`)"),
        ("heads.md", "[a](https://example.org/b) [c](#here)", "[a](https://example.org/b) [c](#here)"),
        ("heads.md", "[a](gone.md)", "[a](gone.md)"),
        ("heads.md", "`[a](../params.yaml)`\n\n```\n[b](../README.md)\n```", "`[a](../params.yaml)`\n\n```\n[b](../README.md)\n```"),
    ],
)
def test_links_lead_where_the_site_has_the_page(hooks: ModuleType, uri: str, link: str, wanted: str):
    assert mended(hooks, link, uri) == wanted


def test_with_a_repository_links_to_files_lead_there(hooks: ModuleType):
    wanted = f"[the program]({REPOSITORY}/blob/main/stages/heads/cosface.py)"
    assert mended(hooks, "[the program](../stages/heads/cosface.py)", "heads.md", REPOSITORY) == wanted


def test_decisions_are_listed_by_number_with_their_titles(hooks: ModuleType):
    config = hooks.on_config(SimpleNamespace(nav=[{"Home": "index.md"}, {"Decisions": "decisions/"}]))
    (listed,) = (entry["Decisions"] for entry in config.nav if "Decisions" in entry)
    pages = [page for entry in listed for page in entry.values()]
    assert pages == sorted(f"decisions/{path.name}" for path in (ROOT / "docs/decisions").glob("*.md"))
    assert [title for entry in listed for title in entry if title.startswith("0101.")] == ["0101. uv and its lock install facet, by `uv export` and `uv pip install`"]


def test_a_page_of_the_report_leads_back_to_the_site(hooks: ModuleType, tmp_path: Path):
    for name in ("report/index.html", "report/faces/a.html"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('<html><body class="wide"><h1>Tables</h1></body></html>')
    hooks.on_post_build(SimpleNamespace(site_dir=str(tmp_path)))
    for name, home in (("report/index.html", "../index.html"), ("report/faces/a.html", "../../index.html")):
        assert re.search(rf'<body class="wide"><p [^>]*><a href="{home}">', (tmp_path / name).read_text())
