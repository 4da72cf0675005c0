"""Terminal output of a flow run: a live board, or lines, of which each stage has one per half minute.

What stages print is in their log files and in Prefect; here it only tells a person that they are at work.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prefect.logging.handlers import PrefectConsoleHandler

from pipeline.board.lines import EVERY_S
from pipeline.board.live import LiveBoard, is_terminal
from pipeline.board.snapshot import Snapshot

Show = Callable[[Snapshot], None]
OF_STAGES = "prefect.task_runs"
PREFECTS_END = ("Finished in state", "Task run failed with state")
"""How Prefect's own lines at the end of a task begin, where a line of ours has said more."""

ON_BOARD = "on_board"
"""Set in records of what the board shows anyway."""


def nowhere(one: Snapshot) -> None:
    """Take a snapshot that no terminal shows."""


@contextmanager
def board(title: str, plain: bool) -> Iterator[Show]:
    """Draw the board on standard error, if that is a terminal and ``plain`` is not set; yield what takes snapshots."""
    if plain or not is_terminal(sys.stderr):
        yield nowhere
        return
    with LiveBoard(title) as live, _filtering(_Above(live)):
        try:
            yield live.show
        finally:
            # the command lists them behind it, with their logs
            live.with_foot = False


@contextmanager
def brief() -> Iterator[None]:
    """Print one line of a stage's output per half minute; what the flow itself says is printed whole."""
    with _filtering(Brief()):
        yield


@contextmanager
def _filtering(one: logging.Filter) -> Iterator[None]:
    handlers = [handler for handler in logging.getLogger().handlers if isinstance(handler, PrefectConsoleHandler)]
    for handler in handlers:
        handler.addFilter(one)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(one)


class _Above(logging.Filter):
    """Prints warnings above the board, and nothing else."""

    def __init__(self, live: LiveBoard) -> None:
        super().__init__()
        self.live = live

    def filter(self, record: logging.LogRecord) -> bool:
        """Return False: nothing goes to the handler."""
        if record.levelno >= logging.WARNING and record.name != OF_STAGES and not getattr(record, ON_BOARD, False):
            self.live.note(record.getMessage())
        return False


class Brief(logging.Filter):
    """Lets a line of a stage through if half a minute has passed since it began or since its last one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.clock = clock
        self.printed: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is printed."""
        if record.name != OF_STAGES:
            return True
        if str(record.msg).startswith(PREFECTS_END):
            return False
        name, now = getattr(record, "task_run_name", ""), self.clock()
        if now - self.printed.setdefault(name, now) < EVERY_S:
            return False
        self.printed[name] = now
        return True
