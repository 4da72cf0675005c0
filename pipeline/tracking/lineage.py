"""Lineage from DVC's lock files: the identity of a recorded run, and the hashes of everything it was made of.

Paths are relative to the project's root, as in the lock files of all stages whose `wdir` is the root.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.base import environment
from pipeline.execution import lock_damage
from stages.core.errors import InputError, OperationError
from stages.runtime import yaml_text

# what a recorded run is made of, beside code and metrics
TRAINING, EVALUATION = "training", "evaluation"
_BINARY = ("data/", "runs/", "initial/")


@dataclass(frozen=True)
class Entry:
    """One stage's entry in a lock file, as DVC last finished it."""

    name: str
    cmd: str
    deps: Mapping[str, str] = field(default_factory=dict)  # path -> MD5; a folder's ends in .dir
    outs: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)  # file -> section -> values


@dataclass(frozen=True)
class Locked:
    """All stages of all lock files, by short name: ``row@heads-adaface``."""

    entries: Mapping[str, Entry]
    _upstream: dict[str, list[Entry]] = field(default_factory=dict, repr=False, compare=False)

    def upstream(self, name: str) -> list[Entry]:
        """Return the stages whose outputs ``name`` depends on, directly or not, each once.

        Parameters are not followed: an entry holds the values it used, and `resolve` changes with any edit.
        """
        if name not in self._upstream:
            found: dict[str, Entry] = {}
            waiting = [self.entries[name]]
            while waiting:
                for path in waiting.pop().deps:
                    for entry in self._writers(path):
                        if entry.name not in {name, *found}:
                            found[entry.name] = entry
                            waiting.append(entry)
            self._upstream[name] = list(found.values())
        return self._upstream[name]

    def _writers(self, path: str) -> Iterator[Entry]:
        """Yield the stages that write ``path``, a folder around it, or something in it."""
        writer, paths = self._outs
        for above in (path, *(parent.as_posix() for parent in PurePosixPath(path).parents)):
            if above in writer:
                yield writer[above]
        for out in paths[bisect_left(paths, path + "/") :]:
            if not out.startswith(path + "/"):
                return
            yield writer[out]

    @cached_property
    def _outs(self) -> tuple[dict[str, Entry], list[str]]:
        """The stage that writes each path, and the paths in order."""
        writer = {path: entry for entry in self.entries.values() for path in entry.outs}
        return writer, sorted(writer)


def read(root: Path) -> Locked:
    """Read dvc.lock and graph/*/dvc.lock; missing files count as empty.

    Raises:
        ValueError: one of them is cut short.
    """
    entries = {}
    try:
        for path in lock_damage.files(root):
            tree = yaml_text.read(path) or {}
            entries.update({entry.name: entry for entry in _entries(tree)})
    except (InputError, AttributeError, KeyError, TypeError) as error:
        if told := lock_damage.sentence(root):
            raise InputError(told) from error
        raise
    return Locked(entries)


def fingerprint(entry: Entry, *more: Any) -> str:
    """Return the SHA-256 of a stage's lock entry, and of further plain data that distinguishes runs.

    Command, parameters, and the hashes of everything read and written: a stage that was executed, restored
    from the run cache or pulled from elsewhere has one fingerprint, and anything that differs has another.
    """
    tree = [entry.cmd, dict(entry.deps), dict(entry.params), dict(entry.outs), *more]
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def matches(path: Path, md5: str) -> bool:
    """Return whether a file or folder has the content that DVC locked."""
    if md5.endswith(".dir"):
        return path.is_dir() and folder_md5(path) == md5
    return path.is_file() and file_md5(path) == md5


def folder_md5(folder: Path) -> str:
    """Return DVC's hash of a folder: the MD5 of the list of its files and their hashes."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    listing = [{"md5": file_md5(path), "relpath": path.relative_to(folder).as_posix()} for path in files]
    text = json.dumps(sorted(listing, key=lambda item: item["relpath"]), sort_keys=True)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() + ".dir"


def hashes(locked: Locked, entry: Entry) -> dict[str, str]:
    """Return the MD5 of each data set and model upstream of a stage, and of its own outputs."""
    upstream = locked.upstream(entry.name)
    behind = {path: md5 for one in (*upstream, entry) for path, md5 in {**one.deps, **one.outs}.items()}
    return {path: md5 for path, md5 in behind.items() if path.startswith(_BINARY)} | dict(entry.outs)


def datasets(locked: Locked, entry: Entry) -> tuple[tuple[str, str, str], ...]:
    """Return the data sets upstream of a stage: name, digest, and their use.

    Of a person's own folder each test set counts, as ``NAME/SET``: what DVC has of the folder never changes.
    """
    own = set(_own_sets((entry, *locked.upstream(entry.name))))
    folders = {(name.partition("/")[0], purpose) for name, _, purpose in own}
    found = set()
    for path, md5 in hashes(locked, entry).items():
        if match := re.fullmatch(r"data/(\w+)/(train|eval)", path):
            purpose = TRAINING if match[2] == "train" else EVALUATION
            if (match[1], purpose) not in folders:
                found.add((match[1], md5, purpose))
    return tuple(sorted(found | own))


def _own_sets(entries: Iterable[Entry]) -> Iterator[tuple[str, str, str]]:
    """Yield the test sets of own folders that stages evaluate, from the digests that are their parameters."""
    for entry in entries:
        names = [match[1] for path in entry.deps if (match := re.fullmatch(r"data/(\w+)/eval", path))]
        pins = [tree for file, tree in entry.params.items() if file.startswith("pins/")]
        for name in names:
            for section in (section for tree in pins for section in tree.values()):
                yield from ((f"{name}/{one}", str(md5), EVALUATION) for one, md5 in (section or {}).items() if md5)


def tree(locked: Locked, entry: Entry) -> dict[str, Any]:
    """Return a stage and everything upstream of it as plain data: code, parameters and metrics too."""
    return {
        one.name: {"cmd": one.cmd, "params": dict(one.params), "deps": dict(one.deps), "outs": dict(one.outs)}
        for one in (entry, *locked.upstream(entry.name))
    }


def git_state(root: Path) -> dict[str, str]:
    """Return ``commit`` and ``dirty``, or the ``problem`` that git has; empty outside a checkout, or without a commit.

    Files that the pipeline writes do not count as dirty.
    """
    try:
        commit = _git(root, "rev-parse", "HEAD")
        written = (":!results", ":!dvc.lock", ":!graph/*/dvc.lock")
        changed = _git(root, "status", "--porcelain", "--", ".", *written)
    except FileNotFoundError:
        return {}
    except OperationError as error:
        nothing_there = ("not a git repository", "ambiguous argument 'HEAD'")
        return {} if any(one in str(error) for one in nothing_there) else {"problem": str(error)}
    return {"commit": commit, "dirty": str(bool(changed)).lower()}


def _git(root: Path, *arguments: str) -> str:
    settings = environment.for_children() | {"LC_ALL": "C"}
    done = subprocess.run(["git", *arguments], cwd=root, env=settings, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OperationError(done.stderr.strip().partition("\n")[0])
    return done.stdout.strip()


def file_md5(path: Path) -> str:
    """Return the MD5 of a file's bytes, as DVC locks it."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _entries(tree: Mapping[str, Any]) -> Iterator[Entry]:
    for name, locked in tree.get("stages", {}).items():
        cmd = locked["cmd"] if isinstance(locked["cmd"], str) else "\n".join(locked["cmd"])
        deps, outs = _md5s(locked.get("deps", [])), _md5s(locked.get("outs", []))
        yield Entry(name, cmd, deps, outs, locked.get("params", {}))


def _md5s(items: list[dict[str, Any]]) -> dict[str, str]:
    return {item["path"]: str(item.get("md5", "")) for item in items}

