"""Cache of synthetic test sets: data sets of one seed and one ``eval`` share them; rendering is most of their cost.

    .facet/drawn/KEY/     what was drawn; KEY is a digest of what was asked for and of the code that draws

Another request, or another line of that code, is another key, so nothing can be stale; the folder may be deleted at
any time. The data set gets a copy: nobody can damage what is kept through it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stages.runtime import artifacts, locks, progress

KEPT = 4
"""Number of cached sets to keep, the most recently used ones."""


def fill(folder: Path, asked: Mapping[str, Any], draw: Callable[[Path], None]) -> None:
    """Fill ``folder`` with ``draw``, or from the cache if the same request was rendered before.

    Args:
        folder: there, and empty.
        asked: everything that decides what is drawn, but for the code.
        draw: fills a folder.
    """
    home = artifacts.STATE / "drawn"
    home.mkdir(parents=True, exist_ok=True)
    kept = home / key(asked)
    # the second process waits, and copies
    with locks.held(home / f"{kept.name}.lock"):
        if kept.is_dir():
            progress.say("copied the same test sets from another data set's rendering")
        else:
            with artifacts.write_folder(kept) as aside:
                draw(aside)
        os.utime(kept)
        shutil.copytree(kept, folder, dirs_exist_ok=True)
    _forget_old(home, kept)


def key(asked: Mapping[str, Any]) -> str:
    """Return the digest of a request and of all our loaded code."""
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode())
    modules = {name: module for name, module in sys.modules.items() if name.startswith("stages.")}
    for name in sorted(modules):
        path = getattr(modules[name], "__file__", None)
        if path is not None:
            digest.update(name.encode() + Path(path).read_bytes())
    return digest.hexdigest()[:24]


def _forget_old(home: Path, used: Path) -> None:
    folders = [path for path in home.iterdir() if path.is_dir() and path.suffix != ".partial" and path != used]
    for path in sorted(folders, key=lambda one: one.stat().st_mtime, reverse=True)[KEPT - 1 :]:
        shutil.rmtree(path, ignore_errors=True)
        path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
