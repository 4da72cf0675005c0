"""Live display of snapshots in a terminal: rich draws them anew twice a second."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from pipeline.board.screen import Board
from pipeline.board.snapshot import Snapshot

PER_SECOND = 2.0


def is_terminal(stream: TextIO) -> bool:
    """Whether a stream is a terminal on which a picture can be drawn anew: no file, no pipe, no dumb terminal."""
    return stream.isatty() and not Console(file=stream).is_dumb_terminal


class LiveBoard:
    """Draws runs below one another, from the snapshots that it was given last."""

    def __init__(self, title: str, stream: TextIO | None = None, clock: Callable[[], float] = time.time) -> None:
        """Prepare it.

        Args:
            title: what stands there until the first snapshot comes.
            stream: a terminal; default: standard error.
            clock: seconds since the epoch.
        """
        self.title, self.clock = title, clock
        self.snapshots: list[Snapshot] = []
        self.with_foot = True
        self.console = Console(file=stream or sys.stderr)
        self.live = Live(
            console=self.console, get_renderable=self._picture, refresh_per_second=PER_SECOND, vertical_overflow="crop"
        )

    def __enter__(self) -> LiveBoard:
        self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live.stop()

    def show(self, *snapshots: Snapshot) -> None:
        """Draw these from now on."""
        self.snapshots = list(snapshots)

    def note(self, line: str) -> None:
        """Print a line above the picture."""
        self.console.print(Text(line))

    def _picture(self) -> Group:
        now, shown = self.clock(), self.snapshots
        if not shown:
            return Group(Text.assemble(("facet ", "dim"), (self.title, "bold"), "  reading the graph ..."))
        height = self.console.height // len(shown)
        boards = [Board(one, now, height, self.with_foot) for one in shown]
        # the last line stays empty: what is typed, and the ^C of Ctrl-C, appears there and wraps no other
        return Group(*(part for board in boards for part in (board, Text())))
