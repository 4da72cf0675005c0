"""`facet list`: lists heads, objectives, backbones, quality methods, layouts, protocols, suites and tables.

Made from the first line of each file's docstring and the fields of its Config, without importing any.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.core.errors import UnknownNameError
from stages.runtime import artifacts, program, yaml_text

EXAMPLES = """\
examples:
  facet list                 everything, in short
  facet list heads           what there is, its paper, the fields that a run may set, its file
  facet list tables"""
KINDS = {
    "heads": "Margin heads: `runs.RUN.head` in params.yaml.",
    "objectives": "What a training minimises: `runs.RUN.objective`.",
    "backbones": "Networks: `runs.RUN.backbone`.",
    "quality": "Methods that score the quality of an image: `runs.RUN.quality`.",
    "datasets": "Layouts that are read.",
    "protocols": "Protocols: embeddings or scores to numbers.",
    "suites": "Suites: what an evaluation stage measures.",
    "tables": "Published tables.",
}
PAPER = re.compile(r" ?\(([^()]*(?:\b(?:19|20)\d\d\b| at [0-9a-f]{7,})[^()]*)\)")
HEADS = ("name", "what", "paper or source", "fields", "file")


@dataclass(frozen=True)
class Entry:
    """One thing of a kind."""

    name: str
    what: str
    paper: str
    fields: tuple[str, ...]
    file: str


def main(arguments: argparse.Namespace) -> None:
    """Print one kind or all of them, or write the page."""
    root = Path(arguments.root)
    if arguments.write:
        with artifacts.write_file(Path(arguments.write)) as aside:
            aside.write_text(markdown(root), encoding="utf-8")
    elif arguments.kind:
        print("\n".join(in_full(entries(root, arguments.kind))))
    else:
        for kind in KINDS:
            print(f"{kind:<11} {', '.join(entry.name for entry in entries(root, kind))}")


def entries(root: Path, kind: str) -> list[Entry]:
    """Return what there is of a kind, in the order of the names.

    Raises:
        LookupError: there is no such kind.
    """
    if kind not in KINDS:
        raise UnknownNameError(f"no kind {kind!r}: there are {', '.join(KINDS)}")
    if kind == "tables":
        return [_table(root, path) for path in sorted((root / "tables").glob("*.yaml"))]
    folder = root / "stages" / kind
    return [_module(root, path) for path in sorted(folder.glob("*.py")) if not path.stem.startswith("_")]


def _module(root: Path, path: Path) -> Entry:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    first = (ast.get_docstring(tree) or "").partition("\n")[0]
    what, paper = split(first)
    return Entry(path.stem, what, paper, tuple(_fields(tree)), path.relative_to(root).as_posix())


def split(line: str) -> tuple[str, str]:
    """Return a line without the first parenthesis that names a year or a commit, and what is in that.

    >>> split("CosFace (Wang et al., CVPR 2018, eq. 4): a margin off the true class's cosine.")
    ("CosFace: a margin off the true class's cosine.", 'Wang et al., CVPR 2018, eq. 4')
    >>> split("Reads TinyFace's test.")
    ("Reads TinyFace's test.", '')
    """
    found = PAPER.search(line)
    return (line, "") if found is None else (line.replace(found[0], "", 1), found[1])


def _fields(tree: ast.Module) -> Iterator[str]:
    """Yield the fields of the module's Config."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == "Config":
            for item in node.body:
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and item.target.id != "name":
                    yield item.target.id


def _table(root: Path, path: Path) -> Entry:
    tree = yaml_text.read(path)
    return Entry(path.stem, tree["title"], " ".join(tree["source"].split()), (), path.relative_to(root).as_posix())


def in_full(found: Sequence[Entry]) -> Iterator[str]:
    """Yield the lines for a terminal."""
    for entry in found:
        yield entry.name
        yield f"    {entry.what}"
        if entry.paper:
            yield f"    {entry.paper}"
        if entry.fields:
            yield f"    fields: {', '.join(entry.fields)}"
        yield f"    {entry.file}"


def markdown(root: Path) -> str:
    """Return docs/catalogue.md."""
    how = (
        "What a run or a table may name, with its source and fields. `facet list` prints it; "
        "`python -m stages.tools.catalogue --write docs/catalogue.md` writes this page."
    )
    parts = ["# Catalogue", how]
    for kind, about in KINDS.items():
        lines = [" | ".join(HEADS), " | ".join(":--" for _ in HEADS)]
        for entry in entries(root, kind):
            fields = ", ".join(f"`{name}`" for name in entry.fields)
            link = f"[{entry.file}](../{entry.file})"
            cells = (f"`{entry.name}`", entry.what, entry.paper, fields, link)
            lines.append(" | ".join(cell.replace("|", "\\|") for cell in cells))
        parts += [f"## {kind}", about, "\n".join(f"| {line} |" for line in lines)]
    return "\n\n".join(parts) + "\n"


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    options = argparse.ArgumentParser(
        prog="facet list", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("kind", nargs="?", help=", ".join(KINDS))
    options.add_argument("--root", default=".", help="the project; here by default")
    options.add_argument("--write", metavar="FILE", help="write all of it as Markdown")
    return options


if __name__ == "__main__":
    sys.exit(program.run(main, parser()))
