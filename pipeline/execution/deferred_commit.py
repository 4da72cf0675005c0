"""Deferred commit: what a stage made and DVC's cache had no space for is committed by the next run, not made again.

DVC removes outputs before it runs a stage again, and a training has removed its checkpoint when it succeeded: a full
disk would cost all of it. What stands there still, untouched, made from the same inputs, is committed instead.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.base import environment
from pipeline.execution import dvc_patches
from stages.core.errors import InputError

BLANK = "-" * 64


def _note_file(root: Path, address: str) -> Path:
    return environment.state_folder(root) / "kept" / hashlib.sha256(address.encode()).hexdigest()[:16]


def reserve(root: Path, address: str) -> None:
    """Write a blank note while there is space for it: on a full disk a file can only be written over."""
    path = _note_file(root, address)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(BLANK, encoding="ascii")


def keep(root: Path, repo: Any, address: str) -> bool:
    """Note that a stage's outputs are whole although DVC's cache lacks them; False where that cannot be noted."""
    with suppress(Exception):  # of DVC's many errors, and a file system that cannot write over: it runs again
        made = _state(root, repo, address)
        with _note_file(root, address).open("r+", encoding="ascii") as stream:
            stream.write(made)
        return True
    return False


def forget(root: Path, address: str) -> None:
    """Remove the note of a stage."""
    _note_file(root, address).unlink(missing_ok=True)


def record(root: Path, repo: Any, address: str) -> bool:
    """Commit a stage's outputs if they were kept and nothing has changed since; return whether it did.

    Raises:
        dvc.exceptions.DvcException, OSError: they do not fit into the cache this time either.
    """
    try:
        made = _note_file(root, address).read_text(encoding="ascii")
    except OSError:
        return False
    same = False
    with suppress(Exception):
        same = made != BLANK and made == _state(root, repo, address)
    if same:
        (stage,) = repo.commit(address, force=True)
        if missing := uncached(stage):
            raise OSError(f"DVC's cache still has no space for {missing}")
    forget(root, address)
    return same


def uncached(stage: Any) -> str:
    """Return the outputs that DVC's cache lacks: where files of a folder do not fit, DVC logs it and goes on."""
    return ", ".join(out.def_path for out in stage.outs if out.use_cache and out.changed_cache())


def _state(root: Path, repo: Any, address: str) -> str:
    """Return a hash of a stage's inputs and of names, sizes and times of the files that it has made."""
    (stage,) = repo.stage.collect(address)
    stage.save_deps()
    lines = [dvc_patches.key(stage)]
    if not lines[0]:
        raise InputError(f"{address}: DVC cannot tell by its inputs whether its result is the same")
    for out in stage.outs:
        path = Path(out.fs_path)
        if not path.exists():
            raise FileNotFoundError(path)
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            status = file.stat()
            lines.append(f"{file.relative_to(root)} {status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
