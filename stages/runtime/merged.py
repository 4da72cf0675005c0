"""Data sets merged of several: `sources: [a, b]` under `datasets` in params.yaml, trained on as one.

Its training files are those of its sources, its test sets those of the first. Each source is a data set with a `root`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.core.errors import InputError, UnknownNameError
from stages.runtime import artifacts, places, yaml_text
from stages.runtime.places import Place


@dataclass(frozen=True)
class Merged:
    """A data set made of others."""

    sources: dict[str, Path]
    """The folder of each source, in the order given."""
    same: Path | None = None
    """File that says which identities of several sources are one person; None: none are."""

    @property
    def root(self) -> Path:
        """The folder with its test sets."""
        return next(iter(self.sources.values()))

    def listing(self, listing: Callable[[Place], str]) -> str:
        """Return the lists of all its training files, each path after the name of its source.

        Args:
            listing: returns the list of one place.
        """
        lines = []
        for source, root in self.sources.items():
            for line in listing(places.find(root, "train")).splitlines():
                digest, size, path = line.split(" ", 2)
                lines.append(f"{digest} {size} {json.dumps(f'{source}/{json.loads(path)}')}\n")
        if self.same is not None:
            data = self.same.read_bytes()
            digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
            lines.append(f'{digest} {len(data)} "same"\n')
        return "".join(lines)


def described(tree: Mapping[str, Any]) -> dict[str, Merged]:
    """Return the merged data sets that params.yaml describes, by name.

    Raises:
        ValueError: an entry has a `root` or is synthetic too, or its sources are not data sets with a `root`.
    """
    entries = {name: entry or {} for name, entry in (tree.get("datasets") or {}).items()}
    synthetic = tree.get("synthetic") or {}
    found = {}
    for name, entry in entries.items():
        if not entry.get("sources"):
            if entry.get("same"):
                raise InputError(f"params.yaml, datasets.{name}: `same` is for `sources`, of which it has none")
            continue
        where = f"params.yaml, datasets.{name}.sources"
        if entry.get("root") is not None or name in synthetic:
            other = "a `root`" if entry.get("root") is not None else "an entry under `synthetic`"
            raise InputError(f"{where}: it also has {other}: remove one of the two")
        same = entry.get("same")
        file = None if same is None else places.anchored(same)
        found[name] = Merged(_sources(entry["sources"], entries, where), file)
        if file is not None and not file.is_file():
            raise FileNotFoundError(f"params.yaml, datasets.{name}.same: no file {same}")
    return found


def _sources(names: Any, entries: Mapping[str, Mapping[str, Any]], where: str) -> dict[str, Path]:
    if not isinstance(names, list | tuple) or len(names) < 2 or len(set(names)) < len(names):
        raise InputError(f"{where}: wanted the names of two or more data sets, each once, got {names!r}")
    found = {}
    for name in names:
        if name not in entries:
            raise UnknownNameError(f"{where}: no data set {name!r}: there are {', '.join(sorted(entries))}")
        if entries[name].get("root") is None:
            raise InputError(f"{where}: {name} has no `root`: a source is a folder of yours")
        found[str(name)] = places.anchored(entries[name]["root"])
    _refuse_twice(found, where)
    return found


def _refuse_twice(roots: Mapping[str, Path], where: str) -> None:
    """Refuse sources that are one folder under two names: each person would count as two."""
    seen: dict[Path, str] = {}
    for name, root in roots.items():
        training = places.folder(root, "train")
        real = (places.people_folder(training) or training).resolve()
        if real in seen:
            raise InputError(f"{where}: {seen[real]} and {name} are one folder, {real}: its people would count twice")
        seen[real] = name


def of(dataset: str) -> Merged | None:
    """Return a merged data set as `resolve` wrote it down, None if it is a single one."""
    path = artifacts.RESOLVED / "datasets" / f"{dataset}.yaml"
    tree = yaml_text.read_mapping(path) if path.is_file() else {}
    if "sources" not in tree:
        return None
    same, roots = tree.get("same"), {name: places.anchored(root) for name, root in tree["sources"].items()}
    return Merged(roots, None if same is None else places.anchored(same))


def training_folders(dataset: str) -> dict[str, Path]:
    """Return the folders with the training files of a data set: by source, or its own under its own name."""
    merged = of(dataset)
    if merged is None:
        return {dataset: places.of(dataset, "train").folder}
    return {name: places.folder(root, "train") for name, root in merged.sources.items()}
