"""Board as a picture: what a run does, drawn from its snapshot for a terminal of any size."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pipeline.board import matrix, wording
from pipeline.board.snapshot import RUNNING, Snapshot, StageNow

MOST_LINES_EACH = 4
"""Lines of one failure."""
LEAST_LINES = 10
WIDE = 72
"""Columns from which on a running stage is shown with its rate and its loss."""


class Board:
    """A rich renderable of a run's snapshot; it is never higher than the terminal."""

    def __init__(self, one: Snapshot, now: float, height: int | None = None, with_foot: bool = True) -> None:
        """Draw ``one``.

        Args:
            one: the run.
            now: seconds since the epoch.
            height: most lines; default: those of the terminal.
            with_foot: list the failed stages with what they printed last, and where Prefect shows the run.
        """
        self.one, self.now, self.height, self.with_foot = one, now, height, with_foot

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the parts, from the top."""
        # the cursor has a line of its own
        free = max((self.height or console.height) - 1, LEAST_LINES)
        yield _title(self.one)
        yield _bar(self.one, self.now)
        free -= 2
        foot = self._foot(console, options, free // 3)
        free -= len(foot) + 1
        if running := self.one.of(RUNNING):
            lines = _running(running, self.now, max(free // 2, 2), options.max_width >= WIDE)
            free -= lines.row_count + 1
            yield Text()
            yield lines
        if self.one.stages and free > 1:
            yield Text()
            for part, _ in matrix.parts(self.one.stages, self.now, free - 1, options.ascii_only):
                yield part
        if foot:
            yield Text()
        yield from foot

    def _foot(self, console: Console, options: ConsoleOptions, most: int) -> list[Text]:
        """Return the failures with what they printed last, and where the run is in Prefect, as single lines."""
        lines: list[Text] = []
        failures = self.one.failures if self.with_foot else []
        for shown, stage in enumerate(failures):
            sentence = Text.assemble((f"{stage.name}: ", "bold red"), stage.message)
            wrapped = list(sentence.wrap(console, options.max_width))
            if lines and len(lines) + len(wrapped) > most - 2:
                lines.append(Text(f"and {len(failures) - shown} more failed", style="red"))
                break
            lines += wrapped[:MOST_LINES_EACH]
        ends = [("logs   ", self.one.logs)] * bool(failures)
        ends += [("Prefect", self.one.url)] * bool(self.one.url and self.with_foot)
        return [*lines, *(Text(f"{what} {where}", "dim", no_wrap=True, overflow="ellipsis") for what, where in ends)]


def _title(one: Snapshot) -> Table:
    grid = _grid()
    title = Text.assemble(("facet  ", "dim"), (one.title, "bold"))
    if one.stopping:
        title.append(f"  {one.stopping}", style="yellow")
    elif one.over:
        title.append(f"  {one.flow_run.state.lower() or 'its process has died'}", style="bold")
    grid.add_row(title, Text(wording.counted(one) if one.stages else "reading the graph ..."))
    return grid


def _bar(one: Snapshot, now: float) -> Table:
    grid = _grid()
    done = wording.share_done(one, now)
    words = [f"{done:.0f}%", wording.clock(max(now - one.began, 0.0))]
    if one.num_ended < len(one.stages) and not one.stopping and one.left_s is not None:
        words.append(wording.left(max(one.left_s - (now - one.at), 0.0), one.left_is))
    style = "red" if one.failures else "green" if one.stages and one.num_ended == len(one.stages) else "cyan"
    bar = ProgressBar(100, done, style="bright_black", complete_style=style, finished_style=style)
    grid.add_row(bar, Text("  ".join(filter(None, words))))
    return grid


def _grid() -> Table:
    """Return a line of two: the first takes the width that the second leaves."""
    grid = Table.grid(expand=True, padding=(0, 2, 0, 0), pad_edge=False)
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis", min_width=12)
    grid.add_column(justify="right", no_wrap=True, overflow="ellipsis")
    return grid


def _running(stages: Sequence[StageNow], now: float, most: int, is_wide: bool) -> Table:
    """Return a line for each running stage: device, name, bar, share, rate, loss, time left."""
    grid = Table.grid(expand=True, padding=(0, 2, 0, 0), pad_edge=False)
    grid.add_column(no_wrap=True, style="cyan")
    grid.add_column(no_wrap=True, overflow="ellipsis")
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    for _ in range(4 if is_wide else 2):
        grid.add_column(justify="right", no_wrap=True)
    shown = stages if len(stages) <= most else stages[: most - 1]
    for stage in shown:
        device, name, bar, share, rate, note, left = _running_row(stage, now)
        grid.add_row(device, name, bar, share, *([rate, note] if is_wide else []), left)
    if len(shown) < len(stages):
        grid.add_row("", Text(f"and {len(stages) - len(shown)} more", style="dim"))
    return grid


def _running_row(stage: StageNow, now: float) -> list[RenderableType]:
    measured, elapsed = stage.measured, stage.elapsed_s(now)
    part = wording.percent(stage, now)
    bar: RenderableType = Text(stage.line, style="dim")
    share = ""
    if part is not None:
        done, is_printed = part
        bar = ProgressBar(100, done, style="bright_black", complete_style="cyan" if is_printed else "blue")
        share = f"{done:.0f}%" if is_printed else f"~{done:.0f}%"
    left = None
    if measured is not None and measured.left_s:
        left = measured.left_s - (now - stage.heard)
    elif measured is None and stage.expected_s is not None:
        left = stage.expected_s - elapsed
    last = f"{wording.clock(left)} left" if left is not None and left > 0 else f"for {wording.clock(elapsed)}"
    rate, note = (measured.rate, measured.note) if measured else ("", "")
    return [stage.device, stage.name, bar, share, rate, note, last]
