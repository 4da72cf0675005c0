"""Hooks of mkdocs: pages of the top folder join the site, decisions its navigation; links lead where pages are.

Pages are written to be read in the repository. Their links to files that are no pages of the site lead to the
repository if `repo_url` is set, else only their text stays. A link that is called as its page's file gets the page's
name in the navigation, and a picture leads to itself in its own size.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
JOINED = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "SECURITY.md": "project/security.md",
    "docs/README.md": "pages.md",
}
"""Pages of the top folder and the list of pages, and where they are on the site."""
FENCED = re.compile(r"^(?P<fence>`{3,}|~{3,}).*?^(?P=fence)|(?P<tick>`+)(?:(?!`).)+?(?P=tick)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?P<bang>!?)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<to>[^)\s]+)\)")
SCHEME = re.compile(r"^[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def on_config(config: Any) -> Any:
    """Fill the navigation's decisions, by number, titled by their first line."""
    pages = sorted((ROOT / "docs/decisions").glob("*.md"))
    titled = [{page.read_text(encoding="utf-8").partition("\n")[0].lstrip("# "): f"decisions/{page.name}"} for page in pages]
    for entry in config.nav:
        if "Decisions" in entry:
            entry["Decisions"] = titled
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages of the top folder, and the list of pages."""
    from mkdocs.structure.files import File  # of the extra `docs`; the rest of this file is tested without it

    for name, uri in JOINED.items():
        files.append(File.generated(config, uri, content=(ROOT / name).read_text(encoding="utf-8")))
    return files


def on_post_build(config: Any) -> None:
    """Add a way back to the pages of the report, which come as a command wrote them."""
    for page in Path(config.site_dir).glob("report/**/*.html"):
        home = posixpath.relpath("index.html", page.parent.relative_to(config.site_dir).as_posix())
        text = page.read_text(encoding="utf-8")
        back = f'<p style="margin: 0 0 1rem"><a href="{home}">← facet\'s documentation</a></p>'
        page.write_text(re.sub(r"(<body[^>]*>)", rf"\1{back}", text, count=1), encoding="utf-8")


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Mend the links of a page; code stays as it is."""
    titles = dict(_titles(config.nav))
    at = {uri: name for name, uri in JOINED.items()}.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    there = {file.src_uri for file in files}
    code = [found.span() for found in FENCED.finditer(markdown)]

    def mended(found: re.Match[str]) -> str:
        if any(start <= found.start() < stop for start, stop in code):
            return found[0]
        return _mended(found, at, page.file.src_uri, there, config.repo_url, titles)

    return LINK.sub(mended, markdown)


def _titles(navigation: Any) -> Iterator[tuple[str, str]]:
    """Yield each page of a navigation with its name there."""
    for entry in navigation:
        for title, inside in entry.items():
            if isinstance(inside, str):
                yield inside, title
            else:
                yield from _titles(inside)


def _mended(
    found: re.Match[str], at: str, uri: str, there: set[str], repository: str, titles: Mapping[str, str]
) -> str:
    """Return a link as the site needs it.

    Args:
        found: the link.
        at: the page's path in the repository.
        uri: its place on the site.
        there: the site's files.
        repository: address of the repository; empty: none.
        titles: name of each page in the navigation.
    """
    if SCHEME.match(found["to"]) or found["to"].startswith("#"):
        return found[0]
    path, hash_, anchor = found["to"].partition("#")
    target = posixpath.normpath(posixpath.join(posixpath.dirname(at), path))
    place = JOINED.get(target)
    if place is None and target.startswith("docs/") and target.removeprefix("docs/") in there:
        place = target.removeprefix("docs/")
    if place is not None:
        relative = posixpath.relpath(place, posixpath.dirname(uri) or ".")
        is_file_name = found["text"].strip("`") in (posixpath.basename(target), target)
        text = titles.get(place, found["text"]) if is_file_name else found["text"]
        link = f"{found['bang']}[{text}]({relative}{hash_}{anchor})"
        return f"[{link}]({relative})" if found["bang"] else link
    if not (ROOT / target).exists():
        return found[0]  # mkdocs says that it leads nowhere
    if repository:
        return f"[{found['text']}]({repository.rstrip('/')}/blob/main/{target}{hash_}{anchor})"
    text = found["text"].strip("`")
    return f"`{target}`" if target.endswith(text.rstrip("/")) else f"{found['text']} (`{target}`)"
