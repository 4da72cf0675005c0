"""Pins of a person's own test sets: for each run, the digests of the sets that it is measured on.

    python -m stages.runtime.set_pins

An evaluation depends on the sets that it names and on nothing else in the folder: pins/RUN.yaml has the digests of
these sets, a section for each suite, and the stages have their section as a parameter. The stage `resolve` writes these
files. They are no output of it, so that a set that changes makes nothing stale but what reads it: this program, which
`facet run` and `facet status` start before they read the graph, pins folders anew (``stages.runtime.pin``) and brings
digests up to date. data/NAME/sets/SET.txt lists a set's files. For a synthetic data set a section is empty.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stages.core.errors import InputError
from stages.runtime import artifacts, pin, places, program, progress, yaml_text
from stages.runtime.places import Place

PINS = Path("pins")
ABOUT = PINS / "README.txt"
"""An output of `resolve`: it runs again if the folder is lost."""
ABOUT_TEXT = "Digests of the test sets in folders of yours that a run is measured on: its evaluations depend on them.\n"
VALIDATION = "validation"
"""Section of the sets that a training is validated on."""
MADE_OF = {"crlfw": "lfw"}
"""Sets that are made of another set's files; a file of yours may have such a name too, and then both count."""
TRUTH = "truth"
"""Name of ``truth.parquet``, the known quality of images, which the suite `fiqa` reads beside its sets."""
MANY_FILES = 20_000

Digests = dict[str, str | None]


@dataclass
class SetPins:
    """Digests of the test sets of own data sets, each listed once; ``roots`` are their folders."""

    roots: Mapping[str, Path]
    _found: dict[str, Place] = field(default_factory=dict)
    _known: dict[tuple[str, str], str | None] = field(default_factory=dict)

    def digests(self, dataset: str, names: Iterable[str]) -> Digests:
        """Return the digest of each set, None for one that is not there; nothing for a synthetic data set."""
        return {name: self._digest(dataset, name) for name in names} if dataset in self.roots else {}

    def write(self, run: str, sections: Mapping[str, Any]) -> None:
        """Write the digests of the sets that the sections of a run name."""
        train = sections.get("train") or {}
        looked_at = train.get("validation") or {}
        pins = {VALIDATION: self.digests(looked_at.get("dataset") or train.get("dataset", ""), _validated(looked_at))}
        for name, section in sections.items():
            if name.startswith("evaluate_"):
                sets = _sets(section.get("switches"))
                more = [TRUTH] if sets and name == "evaluate_fiqa" else []
                pins[name] = self.digests(section.get("dataset", ""), [*sets, *more])
                self._say_missing(run, name, section.get("dataset", ""), pins[name])
        pin.write_list(pin_path(run), yaml_text.dump(pins))

    def _say_missing(self, run: str, name: str, dataset: str, digests: Digests) -> None:
        """Say which sets of an evaluation are not there: a training that it waits for may take days."""
        missing = [one for one, found in digests.items() if found is None and one != TRUTH]
        if missing:
            suite, folder = name.removeprefix("evaluate_"), self._found[dataset].folder
            progress.say(
                f"{name}@{run} will fail: {folder} has no {', '.join(missing)}. Name the sets that are there: "
                f"datasets.{dataset}.benchmarks.{suite}.sets in params.yaml ([]: none)"
            )

    def _digest(self, dataset: str, name: str) -> str | None:
        if (dataset, name) not in self._known:
            if dataset not in self._found:  # once: a flat folder of people is looked through for it
                self._found[dataset] = places.find(self.roots[dataset], "eval")
            text = listing(self._found[dataset], name)
            path = list_path(dataset, name)
            if text is None:
                path.unlink(missing_ok=True)
            else:
                pin.write_list(path, text)
            self._known[dataset, name] = digest(text)
        return self._known[dataset, name]


def write_all(roots: Mapping[str, Path], runs: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the digests of all runs, by name with their sections; DVC then sees which stages are stale."""
    pins = SetPins(roots)
    for run, sections in runs.items():
        pins.write(run, sections)
    for path in {*PINS.glob("*.yaml")} - {pin_path(run) for run in runs}:
        path.unlink()
    pin.write_list(ABOUT, ABOUT_TEXT)


def resolved_runs() -> dict[str, dict[str, Any]]:
    """Return the sections of each run as `resolve` wrote them last."""
    paths = sorted((artifacts.RESOLVED / "runs").glob("*.yaml"))
    return {path.stem: yaml_text.read(path) for path in paths}


def checked(dataset: str, files: Mapping[str, str | None]) -> Path:
    """Return the folder with the test sets of a data set, once these hold what was pinned.

    Args:
        dataset: of params.yaml.
        files: digest by set, as ``recorded``.

    Raises:
        ValueError: files of a set differ from the pin; the message names the first.
    """
    place = places.of(dataset, "eval")
    for name, wanted in files.items():
        began_s = time.monotonic()
        found = listing(place, name)
        if digest(found) != wanted:
            raise InputError(_difference(place.folder, dataset, name, wanted, found or ""))
        if found is not None and (many := found.count("\n")) > MANY_FILES:
            source = place.folder / next(_entries(place, _named(name)))
            progress.say(
                f"{source}: looking at {many:,} files took {time.monotonic() - began_s:.0f} s, and takes as long "
                f"whenever it is asked what is stale; `facet pack {source} TARGET` makes one record file of them, to "
                f"be looked at in no time"
            )
    return place.folder


def recorded(run: str, section: str) -> Digests:
    """Return the digests of the sets of ``evaluate_SUITE`` or ``VALIDATION``; none for a synthetic data set."""
    path = pin_path(run)
    sections = yaml_text.read(path) if path.is_file() else None
    return dict((sections or {}).get(section) or {})


def pin_path(run: str) -> Path:
    """Return the file with the digests of a run's sets."""
    return PINS / f"{run}.yaml"


def listing(place: Place, name: str) -> str | None:
    """Return the list of a set's files, as ``pin.listing`` does; None if there are none."""
    found = tuple(_entries(place, _named(name)))
    return pin.listing(place, found) if found else None


def digest(text: str | None) -> str | None:
    """Return the MD5 of a list."""
    return None if text is None else hashlib.md5(text.encode("ascii"), usedforsecurity=False).hexdigest()


def list_path(dataset: str, name: str) -> Path:
    """Return where the files of a set are listed."""
    return artifacts.DATA / dataset / pin.SETS / f"{name}.txt"


def _named(name: str) -> set[str]:
    """Return the names that the files of a set may have."""
    return {name, MADE_OF.get(name, name)}


def _entries(place: Place, names: Collection[str]) -> Iterator[str]:
    """Yield what belongs to a set with one of these names: NAME.bin or the folder NAME, for example, here or in ijb."""
    for prefix in ("", "ijb/"):
        if (place.folder / prefix).is_dir():
            for entry in sorted((place.folder / prefix).iterdir()):
                path, is_named = prefix + entry.name, entry.name in names or entry.stem in names
                # in a flat folder training files may have the set's name
                if is_named and entry.suffix != ".partial" and place.holds(path.split("/")[0]):
                    yield path


def _sets(switches: Any) -> list[str]:
    return list((switches or {}).get("sets") or [])


def _validated(section: Mapping[str, Any]) -> list[str]:
    """Return the sets that a training is validated on, of all suites."""
    if not (section.get("every_epochs") or section.get("every_steps")):
        return []
    suites = section.get("suites") or {}
    more = [TRUTH] if _sets(suites.get("fiqa")) else []
    found = [*_sets(section), *(name for switches in suites.values() for name in _sets(switches)), *more]
    return list(dict.fromkeys(found))


def _difference(folder: Path, dataset: str, name: str, wanted: str | None, found: str) -> str:
    path = list_path(dataset, name)
    listed = path.read_text(encoding="ascii") if path.is_file() else ""
    known = digest(listed or None) == wanted
    return (
        f"{folder}, {name}: not what it was when it was listed"
        f"{', ' + pin.first_difference(listed, found) if known else ''}: "
        f"`facet run` or `dvc repro -f resolve` lists it again, and what depends on it is made anew"
    )


def main(arguments: argparse.Namespace) -> None:
    """Pin what params.yaml names, and what its runs are measured on; write again what else is lost with the pins."""
    from stages.runtime import initial_folders  # late: evaluations load this module too, and have no such folder

    del arguments
    tree = yaml_text.read(Path("params.yaml"))
    tree = tree if isinstance(tree, dict) else {}
    pin.pin_all(tree)
    runs = resolved_runs()
    write_all(pin.roots_of(tree), runs)
    initial_folders.write(runs, tree.get("initial") or {})


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    sys.exit(program.run(main, options))
