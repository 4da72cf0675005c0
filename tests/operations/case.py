"""What the harness is told: a piece of work that writes files, and how an operation fails."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

OPERATIONS = ("open", "write", "fsync", "rename", "mkdir", "unlink", "link")


class Fault(NamedTuple):
    """How an operation fails."""

    name: str
    error: int
    """0: the process is killed."""
    lasting: bool
    """All later ones fail as well."""
    of: tuple[str, ...]
    """Operations that can fail so."""


FAULTS = {
    fault.name: fault
    for fault in (
        # a full disk stays full, and lets files be removed
        Fault("ENOSPC", errno.ENOSPC, True, ("open", "write", "fsync", "rename", "mkdir", "link")),
        Fault("EIO", errno.EIO, False, OPERATIONS),
        Fault("EACCES", errno.EACCES, False, ("open", "rename", "mkdir", "unlink", "link")),
        Fault("killed", 0, False, OPERATIONS),
    )
}


@dataclass(frozen=True)
class Case:
    """A piece of work that writes files, in a folder of its own, which is the working directory."""

    name: str
    what: str
    """For the table of the pages."""
    covers: tuple[str, ...]
    """Functions ``module.function`` that write, and that the work runs."""
    work: Callable[[], object]
    look: Callable[[], dict[str, Any]]
    """What a reader finds; a value is whole before the work or whole after it."""
    prepare: Callable[[], object] = lambda: None
    """Makes what is there before."""
    best_effort: bool = False
    """The work may succeed without having written: a cache, a log."""
    may_vanish: tuple[str, ...] = ()
    """What may be absent in between, because it is made again and nobody made it by hand."""
    within: str = "."
    """Folder in which operations count: elsewhere a library works on files of its own."""
    stays: tuple[str, ...] = ()
    """Patterns of temporary files that the next run does not have to remove."""
    slow: bool = False
    """Takes many seconds: `make test` does not run it, not even without a fault."""
