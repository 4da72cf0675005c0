"""The result of a stage: one record for the process that runs DVC, the flow, what it shows, and the run history."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from stages.core.errors import InputError, OperationError

State = Literal["executed", "restored", "unchanged", "failed", "stopped", "skipped"]
GOOD: tuple[State, ...] = ("executed", "restored", "unchanged")


@dataclass(frozen=True)
class StageResult:
    """How one attempt to bring a stage up to date ended."""

    state: State
    message: str = ""
    command_s: float = 0.0
    """Seconds in the stage's own program; 0 if it did not run."""
    temporary: bool = False
    """It failed in a way that another attempt may mend: it was killed, crashed, hung, or reported so itself."""
    address: str = ""
    name: str = ""
    device: str = ""
    ended: float = 0.0
    """Seconds since the epoch."""

    @property
    def good(self) -> bool:
        """The stage is up to date now."""
        return self.state in GOOD


def message_of(error: Exception, say: Callable[[str], None]) -> str:
    """Return the message that a stage ends with after ``error``; print the traceback if the error is a bug."""
    if isinstance(error, (InputError, OperationError, OSError)):
        return str(error)
    for line in "".join(traceback.format_exception(error)).splitlines():
        say(line)
    return f"{type(error).__name__}: {error}"
