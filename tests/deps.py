"""Compares the modules that stages import with the `deps` of dvc.yaml; as a program, it updates dvc.yaml.

    python -m tests.deps     # runs the tiny project once, about a minute
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import yaml

from tests.support import ROOT, make_project

# named in params.yaml by a profile, where a template cannot see it, or holding more than Python: the folder stands
# for its files
FOLDERS = ("stages/backbones", "stages/objectives", "stages/quality", "stages/reporting")
# cheap, and it looks into every kind
FOLDERS_OF_RESOLVE = (*FOLDERS, "stages/core", "stages/heads", "stages/synthesis")


def traces(project: Path) -> Iterator[tuple[str, set[str], set[str]]]:
    """Yield each locked stage of ours: its name, the files it imported, the code in its deps."""
    for lock in [project / "dvc.lock", *sorted(project.glob("graph/*/dvc.lock"))]:
        for name, entry in yaml.safe_load(lock.read_text())["stages"].items():
            if not entry["cmd"].startswith("python -m stages."):
                continue
            program = entry["cmd"].removeprefix("python -m stages.").replace(" ", "_")
            trace = project / ".facet/imports" / f"{program}.json"
            files = {path for path in json.loads(trace.read_text())["files"] if Path(path).name != "__init__.py"}
            yield name, files, {dep["path"] for dep in entry["deps"] if dep["path"].startswith("stages")}


def differences(imported: set[str], declared: set[str]) -> tuple[set[str], set[str]]:
    """Return the imported files that no dep covers, and the deps that cover no imported file."""
    uncovered = {path for path in imported if not any(PurePosixPath(path).is_relative_to(dep) for dep in declared)}
    unused = {dep for dep in declared if not any(PurePosixPath(path).is_relative_to(dep) for path in imported)}
    return uncovered, unused


def as_declared(name: str, imported: Iterable[str]) -> list[str]:
    """Return the lines of `deps` that cover ``imported``."""
    folders = FOLDERS_OF_RESOLVE if name == "resolve" else FOLDERS
    lines = set()
    for path in imported:
        folder = next((folder for folder in folders if PurePosixPath(path).is_relative_to(folder)), None)
        head = path.startswith("stages/heads/") and name.startswith("train_backbone")
        lines.add("stages/heads/${item.head.name}.py" if head else folder or path)
    return sorted(lines)


def rewrite(text: str, wanted: dict[str, set[str]]) -> str:
    """Return a dvc.yaml with the `stages/` lines of each stage's deps replaced."""
    parts = re.split(r"^(?=  \w+:$)", text, flags=re.MULTILINE)
    for index, part in enumerate(parts):
        name = part.split(":", 1)[0].strip()
        if name in wanted:
            lines = [f"- {path}" for path in as_declared(name, wanted[name])]
            found = re.search(r"(?:^ +- stages/\S+\n)+", part, re.MULTILINE)
            assert found, f"{name}: no line under deps names a file of stages/ yet"
            indent = re.match(r" *", found.group()).group()  # type: ignore[union-attr]
            parts[index] = part.replace(found.group(), "".join(f"{indent}{line}\n" for line in lines))
    return "".join(parts)


def main(project: Path) -> None:
    """Rewrite this checkout's dvc.yaml files."""
    wanted: dict[str, set[str]] = defaultdict(set)
    for name, imported, _ in traces(project):
        wanted[name.split("@")[0]] |= imported
    for path in [ROOT / "dvc.yaml", *sorted(ROOT.glob("graph/*/dvc.yaml"))]:
        path.write_text(rewrite(path.read_text(), wanted))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        tiny = make_project(Path(folder))
        # a person waits here, whatever else the machine does
        tiny.run("dvc", "repro", timeout=3600, FACET_IMPORTS_FOLDER=str(tiny.path / ".facet/imports"))
        main(tiny.path)
