"""Matrix of a run's stages: under each table a line per training run and a column per kind of stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table
from rich.text import Text

from pipeline.board import wording
from pipeline.board.snapshot import FAILED, RUNNING, WAITING, StageNow

MARKS = {
    "executed": ("✓", "+", "green"), "restored": ("✓", "+", "green"), "unchanged": ("✓", "+", "green"),
    FAILED: ("✗", "x", "bold red"), "stopped": ("■", "!", "yellow"), "skipped": ("–", "-", "yellow"),
    WAITING: ("·", ".", "dim"), RUNNING: ("▶", ">", "cyan"),
}  # fmt: skip
"""By state: the mark, the same where a terminal has ASCII alone, and its style."""

Part = tuple[Table | Text, int]
"""Something to draw, and how many lines it takes."""
Groups = dict[str, list[StageNow]]


def parts(stages: Sequence[StageNow], now: float, free: int, ascii_only: bool) -> Iterator[Part]:
    """Yield the matrices of all groups, in ``free`` lines at most.

    Runs for which there is no room are counted: first those that are done, then those that wait.
    """
    groups: Groups = {}
    for stage in stages:
        groups.setdefault(stage.group, []).append(stage)
    hidden = _hidden(groups, free)
    for name, found in groups.items():
        for part, lines in _group(name, found, now, hidden, ascii_only):
            if free < lines:
                return
            free -= lines
            yield part, lines


def short(kind: str) -> str:
    """Return the heading of a stage's column.

    >>> short("evaluate_hq"), short("summary")
    ('hq', 'summary')
    """
    return kind.partition("_")[2] or kind


def _rows(stages: Sequence[StageNow]) -> Groups:
    rows: Groups = {}
    for stage in stages:
        rows.setdefault(stage.run, []).append(stage)
    return rows


def _hidden(groups: Groups, free: int) -> set[str]:
    runs = {run: found for stages in groups.values() for run, found in _rows(stages).items() if run}
    # of each group: an empty line, its heading, those that are of no run, and those that are hidden
    room = free - sum(4 if any(stage.run for stage in stages) else 1 for stages in groups.values())

    def importance(run: str) -> int:
        states = {stage.state for stage in runs[run]}
        return 2 if states & {RUNNING, FAILED} else 1 if WAITING in states else 0

    return set(sorted(runs, key=importance)[: max(len(runs) - max(room, 0), 0)])


def _group(name: str, stages: Sequence[StageNow], now: float, hidden: set[str], ascii_only: bool) -> Iterator[Part]:
    rows = _rows(stages)
    kinds = list(dict.fromkeys(stage.kind for run, found in rows.items() if run for stage in found))
    if not kinds:
        line = Text.assemble((name, "bold"), "  ", _without_run(stages, ascii_only), no_wrap=True, overflow="ellipsis")
        yield line, 1
        return
    yield Text(), 1
    shown = {run: found for run, found in rows.items() if run and run not in hidden}
    yield _table(name, kinds, shown, now, ascii_only), 1 + len(shown)
    if out := [run for run in rows if run in hidden]:
        done = sum(all(stage.ended for stage in rows[run]) for run in out)
        counts = [f"{done} runs are done"] * bool(done) + [f"{len(out) - done} more wait"] * (done < len(out))
        yield Text(f"  {', '.join(counts)}", style="dim"), 1
    if rest := rows.get(""):
        yield Text.assemble("  ", _without_run(rest, ascii_only), no_wrap=True, overflow="ellipsis"), 1


def _table(name: str, kinds: Sequence[str], rows: Groups, now: float, ascii_only: bool) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, overflow="ellipsis")
    for _ in kinds:
        grid.add_column(justify="center", no_wrap=True)
    grid.add_row(Text(name, style="bold"), *(Text(short(kind), style="dim") for kind in kinds))
    for run, found in rows.items():
        cells = {stage.kind: _cell(stage, now, ascii_only) for stage in found}
        grid.add_row(Text(f"  {run}"), *(cells.get(kind, Text()) for kind in kinds))
    return grid


def _cell(stage: StageNow, now: float, ascii_only: bool) -> Text:
    if stage.state == RUNNING and (part := wording.percent(stage, now)) is not None:
        return Text(f"{'' if part[1] else '~'}{part[0]:.0f}%", style="cyan")
    return mark(stage.state, ascii_only)


def mark(state: str, ascii_only: bool) -> Text:
    """Return the sign of a state."""
    sign, plain, style = MARKS[state]
    return Text(plain if ascii_only else sign, style=style)


def _without_run(stages: Sequence[StageNow], ascii_only: bool) -> Text:
    """Return one line of stages that belong to no training run; several of a kind are counted."""
    kinds: Groups = {}
    for stage in stages:
        kinds.setdefault(stage.kind, []).append(stage)
    line = Text()
    for kind, found in kinds.items():
        if line:
            line.append("   ")
        worst = min(found, key=lambda stage: _ORDER.index(stage.state))
        line.append(found[0].name if len(found) == 1 else kind).append(" ")
        if len(found) > 1:
            line.append(f"{sum(stage.ended for stage in found)}/{len(found)} ")
        line.append_text(mark(worst.state, ascii_only))
    return line


_ORDER = [FAILED, RUNNING, "stopped", "skipped", WAITING, "executed", "restored", "unchanged"]
