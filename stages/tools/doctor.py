"""`facet doctor`: says which data sets are here, what is missing or odd, and where the missing comes from.

facet doctor demo
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from stages import artifacts, params, program
from stages.checkup.examine import Found, examine
from stages.checkup.known import KNOWN, TRAIN, Known

EXAMPLES = """\
Exit code: 0, or 1 if a set that a run of params.yaml is trained or measured on is missing or cannot be used.
Counts are compared with the published sets; another count is odd, not wrong.

examples:
  facet doctor                       every data set of params.yaml, what its runs want
  facet doctor --all                 and every other set that can be read, with where it comes from
  facet doctor --folder ~/faces      a folder with train/ and eval/, before `datasets.NAME.root` names it"""

_COLOURS = {"ok": "green", "odd": "yellow", "missing": "red", "unusable": "red", "not here": "bright_black"}


@dataclass(frozen=True)
class Line:
    """One set of one data set."""

    dataset: str
    known: Known
    wanted_by: tuple[str, ...]  # runs
    found: Found
    drawn: bool  # by `synthesize`

    @property
    def status(self) -> str:
        """One of ok, odd, missing, unusable, not here: the last is missing but nobody wants it."""
        if self.found.missing:
            return "missing" if self.wanted_by else "not here"
        if self.found.unusable:
            return "unusable"
        return "odd" if self.found.odd or self.differs else "ok"

    @property
    def differs(self) -> bool:
        """Whether a count is not the published one, where it should be."""
        counts = self.found.counts
        return not self.drawn and any(counts.get(what, count) != count for what, count in self.known.counts.items())

    @property
    def is_fault(self) -> bool:
        """Whether a run of params.yaml cannot do its work."""
        return bool(self.wanted_by) and self.status in ("missing", "unusable")


class MissingError(Exception):
    """Something wanted is missing."""


def main(arguments: argparse.Namespace) -> None:
    """Look and print.

    Raises:
        LookupError: a data set that params.yaml does not have.
        MissingError: something wanted is missing.
    """
    lines = list(look(arguments.datasets, arguments.folder, everything=arguments.all))
    if arguments.json:
        print(json.dumps([as_tree(line) for line in lines], indent=2, ensure_ascii=False))
    else:
        show(lines, Console(highlight=False))
    if any(line.is_fault for line in lines):
        raise MissingError


def look(names: Sequence[str], folder: str | None, *, everything: bool) -> Iterator[Line]:
    """Yield what is found of each set that is wanted, or there, or (``everything``) known."""
    chosen = params.load()
    unknown = sorted(set(names) - set(chosen.datasets))
    if unknown:
        raise LookupError(f"params.yaml has no data set {unknown[0]}: there are {', '.join(chosen.datasets)}")
    for dataset in names or chosen.datasets:
        root = chosen.datasets[dataset].root
        place = Path(folder or root or artifacts.DATA / dataset)
        drawn = root is None and folder is None
        wanted = wanted_sets(chosen, dataset)
        for known in (TRAIN, *KNOWN.values()):
            runs = tuple(wanted.get(known.name, ()))
            if known.only and not runs:
                continue
            found = examine(place, known)
            if runs or everything or not found.missing:
                yield Line(str(place) if folder else dataset, known, runs, found, drawn)
        if folder:
            return


def wanted_sets(chosen: params.Params, dataset: str) -> dict[str, list[str]]:
    """Return the runs that want each set of a data set."""
    wanted: dict[str, list[str]] = {}
    for run, resolved in chosen.runs.items():
        if resolved.train.dataset == dataset:
            wanted.setdefault("train", []).append(run)
        if resolved.evaluate.dataset == dataset:
            for name in _sets_of(resolved.evaluate):
                wanted.setdefault(name, []).append(run)
    return wanted


def _sets_of(switches: BaseModel) -> list[str]:
    """Return the names under ``sets`` of every suite, each once."""
    suites = [getattr(switches, field) for field in type(switches).model_fields]
    return sorted({name for suite in suites for name in getattr(suite, "sets", ())})


def as_tree(line: Line) -> dict[str, Any]:
    """Return a line as JSON holds it."""
    known = line.known
    return {
        "dataset": line.dataset, "set": known.name, "title": known.title, "status": line.status,
        "wanted_by": list(line.wanted_by), "drawn": line.drawn, "place": known.place, "files": list(known.files),
        **asdict(line.found), "published_counts": known.counts, "origin": known.origin,
    }  # fmt: skip


def show(lines: Sequence[Line], console: Console) -> None:
    """Print a table, then what to do about what is missing."""
    for dataset in dict.fromkeys(line.dataset for line in lines):
        mine = [line for line in lines if line.dataset == dataset]
        table = Table(title=f"data set {dataset}", title_justify="left", show_lines=False, expand=False)
        for heading in ("set", "status", "where", "counts", "missing or odd"):
            table.add_column(heading, overflow="fold")
        for line in mine:
            colour = _COLOURS[line.status]
            table.add_row(
                line.known.title, f"[{colour}]{line.status}[/]", line.known.place, _counts(line), _remarks(line)
            )
        console.print(table)
        absent = [line for line in mine if line.found.missing]
        if absent and mine[0].drawn and any(line.wanted_by for line in absent):
            console.print(f"This data set is drawn here: dvc repro synthesize@{dataset}\n", markup=False)
        elif absent:
            _explain(absent, console)
    faults = [line for line in lines if line.is_fault]
    if faults:
        runs = sorted({run for line in faults for run in line.wanted_by})
        titles = ", ".join(dict.fromkeys(line.known.title for line in faults))
        text = f"{len(faults)} sets that the runs {', '.join(runs)} want cannot be used: {titles}"
        console.print(text, style="red", markup=False)
    else:
        console.print("Everything that the runs of params.yaml want is here.", style="green")


def _counts(line: Line) -> str:
    """Return what there is, and in grey what the published set has, where that is something else."""
    texts = [] if line.found.counts or not line.known.counts or line.drawn else ["[bright_black]published:[/]"]
    for what in dict.fromkeys([*line.found.counts, *line.known.counts]):
        count, published = line.found.counts.get(what), line.known.counts.get(what)
        mine = [] if count is None else [f"{count:,}"]
        if published is not None and published != count and not line.drawn:
            mine.append(f"[bright_black]of {published:,}[/]" if mine else f"[bright_black]{published:,}[/]")
        if mine:
            texts.append(f"{' '.join(mine)} {what}")
    return "\n".join(texts)


def _remarks(line: Line) -> str:
    found = line.found
    if found.missing:
        # `where` stands beside it
        shown = [f"no {path.removeprefix(line.known.place) or 'file'}" for path in found.missing[:4]]
        return "\n".join([*shown, *([f"and {len(found.missing) - 4} more"] if len(found.missing) > 4 else [])])
    notes = ["other counts than the published set's"] if line.differs else []
    return (found.unusable or "\n".join([*found.odd, *notes, *found.notes])).replace("[", r"\[")


def _explain(absent: Sequence[Line], console: Console) -> None:
    origins: dict[str, list[str]] = {}
    for line in absent:
        origins.setdefault(line.known.origin, []).append(line.known.title)
    console.print("Where the missing ones come from:")
    for origin, titles in origins.items():
        console.print(f"  {', '.join(titles)}: {origin}", markup=False)
    console.print()


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    options = argparse.ArgumentParser(
        prog="facet doctor", description=(__doc__ or "").splitlines()[0], epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    options.add_argument("datasets", nargs="*", metavar="DATASET", help="of params.yaml; default: all of them")
    options.add_argument("--folder", help="look in this folder, with train/ and eval/, instead of data/DATASET")
    options.add_argument("--all", action="store_true", help="show every set that can be read, wanted or not")
    options.add_argument("--json", action="store_true", help="print JSON")
    return options


def run(argv: Sequence[str] | None = None) -> int:
    """Return the exit code: 1 if something wanted is missing, else as every program's."""
    try:
        return program.run(main, parser(), argv)
    except MissingError:
        return 1


if __name__ == "__main__":
    sys.exit(run())
