"""Results whose program ended well but which DVC could not record, for want of space say: recorded later, not redone.

DVC removes outputs before it runs a stage again, and a training has removed its checkpoint when it succeeded: a full
cache would cost all of it. What stands there still, untouched, made from the same inputs, is committed instead.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline import environment


def _note_file(root: Path, address: str) -> Path:
    return environment.state_folder(root) / "kept" / f"{hashlib.sha256(address.encode()).hexdigest()[:16]}.json"


def keep(root: Path, repo: Any, address: str) -> bool:
    """Note that a stage's outputs are whole although DVC has not recorded them; False where that cannot be noted."""
    with suppress(Exception):  # DVC's many errors, and a disk too full for a note: then it runs again
        environment.write_json(_note_file(root, address), {"made": _state(root, repo, address)})
        return True
    return False


def record(root: Path, repo: Any, address: str) -> bool:
    """Have DVC record a stage's outputs if they were kept and nothing has changed since; say whether it did.

    Raises:
        dvc.exceptions.DvcException, OSError: it could not record them this time either.
    """
    path = _note_file(root, address)
    note = environment.read_json(path)
    if not note:
        return False
    same = False
    with suppress(Exception):
        same = note["made"] == _state(root, repo, address)
    if same:
        repo.commit(address, force=True)
    path.unlink(missing_ok=True)
    return same


def _state(root: Path, repo: Any, address: str) -> list[str]:
    """Return what tells a stage's inputs and the files it has made."""
    from dvc.stage.cache import _get_stage_hash

    (stage,) = repo.stage.collect(address)
    stage.save_deps()
    files: list[str] = []
    for out in stage.outs:
        path = Path(out.fs_path)
        if not path.exists():
            raise FileNotFoundError(path)
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            status = file.stat()
            files.append(f"{file.relative_to(root)} {status.st_size} {status.st_mtime_ns}")
    return [str(_get_stage_hash(stage)), *files]
