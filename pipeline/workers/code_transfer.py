"""Code for stages on other machines: the coordinator's workspace as a git commit, checked out in a clone.

What is not committed is sent too: as a commit of its own on no branch, made with an index of its own, so that
nothing of the user's changes. It is pushed as ``refs/facet/COMMIT-RUN`` and removed when the run has ended:
another run of the same tree has its own.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pipeline.base import environment
from stages.core.errors import InputError, OperationError, UnknownNameError

MAX_UNTRACKED = 20 * 2**20
"""Size limit of a file that git neither has nor ignores; a larger one belongs to DVC or into .gitignore."""

TIMEOUT_S = 600.0
"""Timeout of one git command: only code is transferred, and a remote may accept a connection and never answer."""


def remote_of(root: Path) -> str:
    """Return the git remote that clones share: ``FACET_GIT_REMOTE``, ``origin``, or the only one.

    Raises:
        LookupError: there is none.
    """
    names = _git(root, "remote").split()
    wanted = os.environ.get("FACET_GIT_REMOTE", "origin")
    if wanted in names:
        return wanted
    if len(names) == 1:
        return names[0]
    raise UnknownNameError(
        f"workers in other clones get the code from the git remote {wanted}, and the remotes of this clone are "
        f"{', '.join(names) or 'none'}: run `git remote add {wanted} URL`, or name another one in FACET_GIT_REMOTE"
    )


def snapshot(root: Path) -> str:
    """Return a commit of all files that git does not ignore, as they are now; HEAD if nothing has changed.

    Raises:
        ValueError: a new file is too large to be sent through git.
    """
    head = _git(root, "rev-parse", "HEAD")
    if not _git(root, "status", "--porcelain"):
        return head
    for name in _git(root, "ls-files", "--others", "--exclude-standard", "-z").split("\0"):
        if name and (size := (root / name).lstat().st_size) > MAX_UNTRACKED:
            raise InputError(
                f"{name} has {size / 2**20:.0f} MiB and is neither in git nor ignored: other clones would get it "
                "through git; put it under DVC or into .gitignore"
            )
    with tempfile.TemporaryDirectory() as folder:
        own = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        _git(root, "read-tree", "HEAD", extra=own)
        _git(root, "add", "--all", extra=own)
        tree = _git(root, "write-tree", extra=own)
    who = {
        f"GIT_{role}_{what}": value
        for role in ("AUTHOR", "COMMITTER")
        # the same tree gives the same commit
        for what, value in (("NAME", "facet"), ("EMAIL", "facet@localhost"), ("DATE", "2000-01-01T00:00:00Z"))
    }
    return _git(root, "commit-tree", tree, "-p", head, "-m", "Workspace as it was sent to workers", extra=who)


def reference(commit: str, run: str) -> str:
    """Return the name of a run's commit on the remote."""
    # one level: git takes no COMMIT/RUN where a killed run of an earlier version has left a COMMIT
    return f"refs/facet/{commit}-{run}"


def push(root: Path, commit: str, name: str) -> None:
    """Push a commit to the remote under the `reference` ``name``.

    Raises:
        RuntimeError: git could not; the message is git's.
    """
    _git(root, "push", "--quiet", "--no-verify", "--force", remote_of(root), f"{commit}:{name}")


def remove(root: Path, name: str) -> None:
    """Remove a reference from the remote.

    Raises:
        RuntimeError: git could not; the message is git's.
    """
    _git(root, "push", "--quiet", "--no-verify", remote_of(root), f":{name}")


def check_out(clone: Path, tree: Path, commit: str, name: str) -> None:
    """Check out ``commit`` in ``tree``, a worker's own workspace beside its ``clone``; create it if necessary.

    Args:
        clone: of the project; knows the remote.
        tree: the worker's.
        commit: that ``tree`` shall be at.
        name: the reference under which the remote has it.

    Raises:
        RuntimeError: git could not, or the remote has no such commit; the message is git's.
    """
    if not (tree / ".git").is_dir():
        tree.parent.mkdir(parents=True, exist_ok=True)
        _git(clone, "clone", "--quiet", "--shared", "--no-checkout", str(clone), str(tree))
    if not _has(tree, commit):
        address = _git(clone, "remote", "get-url", remote_of(clone))
        # a relative address is relative to the clone
        address = str((clone / address).resolve()) if (clone / address).exists() else address
        _git(tree, "fetch", "--quiet", "--no-tags", address, f"+{name}:{name}")
    _git(tree, "checkout", "--quiet", "--force", "--detach", commit)


def _has(tree: Path, commit: str) -> bool:
    try:
        _git(tree, "cat-file", "-e", f"{commit}^{{commit}}")
    except RuntimeError:
        return False
    return True


def _git(folder: Path, *arguments: str, extra: Mapping[str, str] | None = None) -> str:
    # never ask a person for a password: nobody looks at a worker's terminal
    settings = environment.for_children() | {"GIT_TERMINAL_PROMPT": "0"} | dict(extra or {})
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env=settings,
            capture_output=True,
            text=True,
            errors="surrogateescape",  # names of files
            stdin=subprocess.DEVNULL,
            check=False,
            timeout=TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        waited = f"took more than {TIMEOUT_S:.0f} s: does the remote answer?"
        raise OperationError(f"git {arguments[0]} in {folder} {waited}") from error
    if done.returncode:
        raise OperationError(f"git {arguments[0]} in {folder}: {environment.last_line(done.stderr)}")
    return done.stdout.strip()
