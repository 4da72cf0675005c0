"""Finds a project's finished results: what DVC locked and the workspace still holds unchanged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.tracking import lineage
from pipeline.tracking.desired import Model, Scope
from pipeline.tracking.lineage import Entry
from stages.runtime import yaml_text


class Finished:
    """Lock files and git state, read once, and a list of what turned out to be unfinished."""

    def __init__(self, root: Path, scope: Scope, project: Path) -> None:
        self.root, self.scope, self.project = root, scope, project
        self.locked = lineage.read(root)
        self.waiting: dict[str, str] = {}
        self.fingerprints: set[str] = set()

    @cached_property
    def git(self) -> dict[str, str]:
        """Commit and git state of the project whose files a workspace copies."""
        return lineage.git_state(self.project)

    def entry(self, stage: str, paths: Sequence[str], where: str, *more: Any) -> tuple[Entry, str] | None:
        """Return a stage's entry in dvc.lock and its fingerprint, if its files are here; else note the reason."""
        entry = self.locked.entries.get(stage)
        if entry is None:
            self.waiting[where] = f"{stage} is not in dvc.lock"
            return None
        identity = lineage.fingerprint(entry, *more)
        self.fingerprints.add(identity)
        for path in paths:
            if not lineage.matches(self.root / path, entry.outs.get(path, "")):
                self.waiting[where] = f"{path} differs from dvc.lock"
                return None
        return entry, identity

    def model(self, run: str, weights_sha256: str) -> Model | None:
        """Return a run's model, if it is here, is the one that was measured and shall be recorded."""
        if not self.scope.models:
            return None
        folder = self.root / "runs" / run / "backbone"
        if not (folder / "program.pt2").is_file() or not (folder / "model.json").is_file():
            return None
        if read_json(folder / "model.json").get("weights_sha256") != weights_sha256:
            return None
        # its quality method may be trained again while the backbone stays
        made = {
            part: entry.outs.get(f"runs/{run}/{part}", "")
            for part, stage in (("backbone", "train_backbone"), ("quality", "train_quality"))
            if (entry := self.locked.entries.get(f"{stage}@{run}"))
        }
        identity, scales = [weights_sha256, made], self._scales(run)
        if scales is not None:
            identity.append(hashlib.sha256(scales.read_bytes()).hexdigest())
        return Model(folder, hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest(), scales)

    def _scales(self, run: str) -> Path | None:
        """Return the scales of a run's quality scores, if the suite that measures them is here as DVC locked it."""
        folder = f"results/{run}/fiqa"
        locked = next((one.outs[folder] for one in self.locked.entries.values() if folder in one.outs), "")
        path = self.root / folder / "scales.json"
        return path if path.is_file() and lineage.matches(self.root / folder, locked) else None

    def common(self, entry: Entry) -> dict[str, Any]:
        """Return the fields of a record that come from its lineage."""
        tags = {"facet.stage": entry.name, "mlflow.source.name": f"dvc repro {entry.name}"}
        tags |= self.git_tags()
        tags |= {f"dvc.{path}": md5 for path, md5 in lineage.hashes(self.locked, entry).items()}
        made_of, datasets = lineage.tree(self.locked, entry), lineage.datasets(self.locked, entry)
        return {"tags": tags, "made_of": made_of, "datasets": datasets}

    def git_tags(self) -> dict[str, str]:
        """Return the state of git as tags."""
        tags = {f"facet.git_{name}": value for name, value in self.git.items()}
        if commit := self.git.get("commit"):
            tags["mlflow.source.git.commit"] = commit
        return tags


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield leaves with dotted names, as text."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, str(value)


def read_yaml(path: Path) -> Any:
    """Read plain YAML."""
    return yaml_text.read(path)


def read_json(path: Path) -> Any:
    """Read JSON."""
    return json.loads(path.read_text(encoding="utf-8"))
