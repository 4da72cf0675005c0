"""`facet doctor`: prints which data sets are here, what is missing or odd, and where to get the missing ones.

facet doctor demo
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from stages.config import params
from stages.core.errors import UnknownNameError
from stages.inspection import machine
from stages.inspection.catalogue import KNOWN, TRAIN, Known, own
from stages.inspection.check import examine, own_sets
from stages.inspection.findings import Found
from stages.runtime import artifacts, places, program

EXAMPLES = """\
Exit code: 1 if a run of params.yaml needs a set that is missing or cannot be used; otherwise 0.
Counts are compared with the published sets; a different count is odd, not wrong.

examples:
  facet doctor                       every data set of params.yaml, with the sets its runs need
  facet doctor --all                 also every other set that can be read, and where to get it
  facet doctor --folder ~/faces      a folder as it was downloaded, before `datasets.NAME.root` names it"""

_COLOURS = {"ok": "green", "odd": "yellow", "missing": "red", "unusable": "red", "not here": "bright_black"}


@dataclass(frozen=True)
class Line:
    """One set of one data set."""

    dataset: str
    known: Known
    wanted_by: tuple[str, ...]  # runs
    found: Found
    synthetic: bool

    @property
    def status(self) -> str:
        """One of ok, odd, missing, unusable, not here: the last means missing but not required."""
        if self.found.missing:
            return "missing" if self.wanted_by else "not here"
        if self.found.unusable:
            return "unusable"
        return "odd" if self.found.odd or self.differs else "ok"

    @property
    def differs(self) -> bool:
        """Whether a count differs from the published one although it should not."""
        counts = self.found.counts
        return not self.synthetic and any(counts.get(what, count) != count for what, count in self.known.counts.items())

    @property
    def where(self) -> str:
        """Place in the data set's folder: where it is, or where it should be."""
        return self.known.place if self.found.missing else self.found.where

    @property
    def is_fault(self) -> bool:
        """Whether a run of params.yaml cannot work because of it."""
        return bool(self.wanted_by) and self.status in ("missing", "unusable")


class MissingError(Exception):
    """A required set is missing."""


def main(arguments: argparse.Namespace) -> None:
    """Check and print.

    Raises:
        LookupError: a data set that params.yaml does not have.
        MissingError: something wanted is missing.
    """
    lines = list(look(arguments.datasets, arguments.folder, everything=arguments.all))
    if arguments.json:
        print(json.dumps([as_tree(line) for line in lines], indent=2, ensure_ascii=False))
    else:
        show(lines, Console(highlight=False))
        if not arguments.folder:
            machine.show(Console(highlight=False))
    if any(line.is_fault for line in lines):
        raise MissingError


def look(names: Sequence[str], folder: str | None, *, everything: bool) -> Iterator[Line]:
    """Yield the findings for each set that is required, or present, or (``everything``) known."""
    chosen = params.load()
    unknown = sorted(set(names) - set(chosen.datasets))
    if unknown:
        raise UnknownNameError(f"params.yaml has no data set {unknown[0]}: there are {', '.join(chosen.datasets)}")
    for dataset in names or chosen.datasets:
        described = chosen.datasets[dataset]
        synthetic = described.is_synthetic and folder is None
        title = folder or dataset
        wanted = wanted_sets(chosen, dataset)
        roots = {"": artifacts.DATA / dataset if described.root is None else places.anchored(described.root)}
        if folder:
            roots = {"": Path(folder)}
        elif described.sources:
            roots = {source: places.anchored(str(chosen.datasets[source].root)) for source in described.sources}
        for source, root in roots.items():
            known = replace(TRAIN, title=f"training set {source}") if source else TRAIN
            yield from _lines(title, [known], root, wanted, synthetic, everything=everything)
        # test sets of a merged set are those of its first source
        root = next(iter(roots.values()))
        others = {one.name: one for one in own_sets(root)}
        others |= {name: own(name, f"eval/{name}.bin") for name in wanted if name not in {"train", *KNOWN, *others}}
        evaluated = [run.evaluate.ijb for run in chosen.runs.values() if run.evaluate.dataset == dataset]
        evaluated += [run.train.validation.suites.ijb for run in chosen.runs.values() if _validates(run, dataset)]
        one_to_n = any("1:N" in ijb.protocols for ijb in evaluated)
        known_sets = [*KNOWN.values(), *others.values()]
        yield from _lines(title, known_sets, root, wanted, synthetic, everything=everything, one_to_n=one_to_n)
        if folder:
            return


def _lines(
    title: str, sets: Iterable[Known], root: Path, wanted: Mapping[str, Sequence[str]], synthetic: bool,
    *, everything: bool, one_to_n: bool = True,
) -> Iterator[Line]:  # fmt: skip
    for known in sets:
        runs = tuple(wanted.get(known.name, ()))
        if known.only and not runs:
            continue
        found = examine(root, known, one_to_n=one_to_n and bool(runs))
        if runs or everything or not found.missing:
            yield Line(title, known, runs, found, synthetic)


def wanted_sets(chosen: params.Params, dataset: str) -> dict[str, list[str]]:
    """Return the runs that need each set of a data set."""
    wanted: dict[str, list[str]] = {}
    for run, resolved in chosen.runs.items():
        if resolved.train.dataset == dataset:
            wanted.setdefault("train", []).append(run)
        names = set(_sets_of(resolved.evaluate)) if resolved.evaluate.dataset == dataset else set()
        if _validates(resolved, dataset):
            names |= {*resolved.train.validation.sets, *_sets_of(resolved.train.validation.suites)}
        for name in sorted(names):
            wanted.setdefault(name, []).append(run)
    return wanted


def _validates(run: params.Run, dataset: str) -> bool:
    """Return whether a run is validated on a data set while it trains."""
    validation = run.train.validation
    return validation.is_wanted and (validation.dataset or run.train.dataset) == dataset


def _sets_of(switches: BaseModel) -> list[str]:
    """Return the names under ``sets`` of every suite, each once."""
    suites = [getattr(switches, field) for field in type(switches).model_fields]
    return sorted({name for suite in suites for name in getattr(suite, "sets", ())})


def as_tree(line: Line) -> dict[str, Any]:
    """Return a line as JSON holds it."""
    known = line.known
    return {
        "dataset": line.dataset, "set": known.name, "title": known.title, "status": line.status,
        "wanted_by": list(line.wanted_by), "synthetic": line.synthetic, "place": known.place,
        "files": list(known.files), **asdict(line.found), "published_counts": known.counts, "origin": known.origin,
    }  # fmt: skip


def show(lines: Sequence[Line], console: Console) -> None:
    """Print a table, then what to do about missing sets."""
    for dataset in dict.fromkeys(line.dataset for line in lines):
        mine = [line for line in lines if line.dataset == dataset]
        show_table(f"data set {dataset}", mine, console)
        absent = [line for line in mine if line.found.missing]
        if absent and mine[0].synthetic and any(line.wanted_by for line in absent):
            console.print(f"This data set is synthetic: render it with dvc repro synthesize@{dataset}\n", markup=False)
        elif absent:
            _explain(absent, console)
    faults = [line for line in lines if line.is_fault]
    if faults:
        runs = sorted({run for line in faults for run in line.wanted_by})
        titles = ", ".join(dict.fromkeys(line.known.title for line in faults))
        text = f"{len(faults)} sets that the runs {', '.join(runs)} need cannot be used: {titles}"
        console.print(text, style="red", markup=False)
    else:
        console.print("All sets that the runs of params.yaml need are here.", style="green")


def show_table(title: str, lines: Sequence[Line], console: Console) -> None:
    """Print a line for each set: status, place, counts, and what is missing or odd."""
    table = Table(title=title, title_justify="left", show_lines=False, expand=False)
    for heading in ("set", "status", "where", "counts", "missing or odd"):
        table.add_column(heading, overflow="fold")
    for line in lines:
        colour = _COLOURS[line.status]
        table.add_row(line.known.title, f"[{colour}]{line.status}[/]", line.where, _counts(line), _remarks(line))
    console.print(table)


def _counts(line: Line) -> str:
    """Return the counts found, with the published ones in grey where they differ."""
    texts = [] if line.found.counts or not line.known.counts or line.synthetic else ["[bright_black]published:[/]"]
    for what in dict.fromkeys([*line.found.counts, *line.known.counts]):
        count, published = line.found.counts.get(what), line.known.counts.get(what)
        mine = [] if count is None else [f"{count:,}"]
        if published is not None and published != count and not line.synthetic:
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
    notes = ["counts differ from the published set's"] if line.differs else []
    return (found.unusable or "\n".join([*found.odd, *notes, *found.notes])).replace("[", r"\[")


def _explain(absent: Sequence[Line], console: Console) -> None:
    origins: dict[str, list[str]] = {}
    for line in absent:
        origins.setdefault(line.known.origin, []).append(line.known.title)
    console.print("Where to get the missing sets:")
    for origin, titles in origins.items():
        console.print(f"  {', '.join(titles)}: {origin}", markup=False)
    console.print()


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    options = argparse.ArgumentParser(
        prog="facet doctor", description=(__doc__ or "").splitlines()[0], epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    options.add_argument("datasets", nargs="*", metavar="DATASET", help="data sets of params.yaml; default: all")
    options.add_argument("--folder", help="check this folder, flat or with train/ and eval/, instead of a data set")
    options.add_argument("--all", action="store_true", help="show every set that can be read, needed or not")
    options.add_argument("--json", action="store_true", help="print JSON")
    return options


def run(argv: Sequence[str] | None = None) -> int:
    """Return the exit code: 1 if a required set is missing, otherwise the usual ones."""
    try:
        return program.run(main, parser(), argv)
    except MissingError:
        return 1


if __name__ == "__main__":
    sys.exit(run())
