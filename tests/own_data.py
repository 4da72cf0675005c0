"""A person's folder and the project that reads it, for tests through real DVC."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.support import Project


def put(project: Project, **sections: object) -> None:
    """Replace whole sections of params.yaml."""
    path = project.path / "params.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **sections}, sort_keys=False))


def flatten(folder: Path) -> None:
    """Move what train/ and eval/ hold beside one another, as faces_emore unpacks."""
    for part in (folder / "train", folder / "eval"):
        for path in part.iterdir():
            path.rename(folder / path.name)
        part.rmdir()
