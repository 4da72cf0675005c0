"""Lock files that cannot be read: which one, and what to do.

Ours are written aside and moved into place; plain `dvc repro` writes them in place, and on a full disk leaves an empty
one or half of one, with which DVC then refuses every command.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

CONFLICT = "<<<<<<< "


def files(root: Path) -> Iterator[Path]:
    """Yield dvc.lock and graph/*/dvc.lock as far as they are there."""
    yield from (path for path in (root / "dvc.lock", *sorted(root.glob("graph/*/dvc.lock"))) if path.is_file())


def sentence(root: Path) -> str | None:
    """Return which lock files are empty or cut short and the way out; None if there is none.

    None are removed here: a commit may have one with more in it than the run cache, which only a person knows.
    """
    found = [path.relative_to(root).as_posix() for path in files(root) if _is_cut_short(path)]
    if not found:
        return None
    names, it = ", ".join(found), "it" if len(found) == 1 else "them"
    return (
        f"{names}: wanted a lock file of DVC, got one that is empty or cut short, as a full disk leaves it: make room, "
        f"remove {it} (or take {it} back from git, where a commit has {it}) and run again; results in DVC's run cache "
        "are found, not computed again"
    )


def _is_cut_short(path: Path) -> bool:
    from dvc.dvcfile import Lockfile
    from dvc.exceptions import DvcException
    from dvc.utils.serialize import parse_yaml

    text = path.read_bytes().decode(errors="replace")
    if any(line.startswith(CONFLICT) for line in text.splitlines()):
        return False  # a person's to merge, and DVC says so
    try:
        Lockfile.validate(parse_yaml(text, str(path)), str(path))
    except DvcException:
        return True
    return False
