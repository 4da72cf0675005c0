"""Where a data set's training files and test sets are: under train/ and eval/, or together as they were downloaded.

    FOLDER/train/train.rec, FOLDER/eval/lfw.bin      a folder for each part
    FOLDER/train.rec, FOLDER/lfw.bin                 flat, as InsightFace's faces_emore unpacks

Training files are a record file with what belongs to it (``train.rec``, or the only ``NAME.rec``), or a folder for each
person with images in it. Everything else in a flat folder is test sets.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from stages.core.errors import InputError
from stages.datasets.people import is_image
from stages.runtime import artifacts, yaml_text

PARTS = ("train", "eval")
MOVED = "FACET_DATA"
"""Variable of the environment: where this machine has the folders that params.yaml names."""
TEST_SETS = ("ijb", "IJBB", "IJBC", "tinyface", "scface", "ijbs", "adience", "xqlfw", *PARTS)
"""Folders that are never an identity's."""
WRAPPERS = ("imgs", "images")
"""Folders that hold those of the identities: AdaFace's ``imgs``."""
_EXPERIMENTS = (".dvc", "tmp", "exps")
_NO_PEOPLE = ("pairs.csv", "pair_list.txt")
_A_TEST_SET = ("tinyface/Testing_Set", "Testing_Set", "loose_crop")
"""What tells that a folder is a test set itself, whose folders of images are not those of people."""


@dataclass(frozen=True)
class Place:
    """A folder with a part of a data set, which may share it with the other part."""

    folder: Path
    only: frozenset[str] | None = None
    """Entries directly in the folder that belong to the part; None: all but those in ``apart``."""
    apart: frozenset[str] = frozenset()

    def holds(self, name: str) -> bool:
        """Return whether an entry directly in the folder belongs to the part; hidden ones are no data."""
        return not name.startswith(".") and name not in self.apart and (self.only is None or name in self.only)

    @property
    def is_shared(self) -> bool:
        """Whether the other part is in the same folder."""
        return self.only is not None or bool(self.apart)

    def is_filled(self) -> bool:
        """Return whether anything of the part is there."""
        if not self.is_shared or not self.folder.is_dir():
            return self.folder.is_dir()
        return any(self.holds(path.name) for path in self.folder.iterdir())


def folder(root: Path, part: str) -> Path:
    """Return the folder with a part, ``train`` or ``eval``, of the data set in a folder, as ``find`` but at once.

    What of a flat folder belongs to the part takes longer: it may hold the folders of a hundred thousand people.
    """
    return root / part if (root / part).is_dir() else root


def find(root: Path, part: str) -> Place:
    """Return the place of a part, ``train`` or ``eval``, of the data set in a folder; it need not hold anything."""
    if (root / part).is_dir():
        return Place(root / part)
    training = training_names(root)
    return Place(root, only=training) if part == "train" else Place(root, apart=training | frozenset(PARTS))


def of(dataset: str, part: str) -> Place:
    """Return the place of a part of a data set of params.yaml: in its ``root`` if it has one, else below ``data``."""
    described = artifacts.RESOLVED / "datasets" / f"{dataset}.yaml"
    root = yaml_text.read_mapping(described).get("root") if described.is_file() else None
    return Place(artifacts.DATA / dataset / part) if root is None else find(anchored(root), part)


def anchored(path: str) -> Path:
    """Return where a path of params.yaml is on this machine: elsewhere if ``FACET_DATA`` says so.

    A relative one is relative to the project. `dvc exp run --temp` and `--queue` work in a copy of the project,
    PROJECT/.dvc/tmp/exps/...: there it is relative to PROJECT, beside which a person's folders are.
    """
    here = Path(path)
    for folder, elsewhere in moved().items():
        if here.is_relative_to(folder):
            return elsewhere / here.relative_to(folder)
    for above in Path.cwd().parents:
        if above.parts[-3:] == _EXPERIMENTS:
            return above.parents[2] / path
    return here


def moved() -> dict[Path, Path]:
    """Return the folders of params.yaml that this machine has elsewhere, by ``FACET_DATA``, the deepest first.

    Raises:
        ValueError: the variable is not ``FOLDER=FOLDER`` pairs with colons between them.
    """
    found = {}
    for pair in filter(None, os.environ.get(MOVED, "").split(":")):
        folder, equals, elsewhere = pair.partition("=")
        if not (equals and Path(folder).is_absolute() and Path(elsewhere).is_absolute()):
            raise InputError(
                f"{MOVED}: wanted absolute paths, as params.yaml has it = as this machine has it, with a colon between "
                f"two pairs (/data=/mnt/fast:/other=/home/me/other), got {pair!r}"
            )
        found[Path(folder)] = Path(elsewhere)
    return dict(sorted(found.items(), key=lambda each: -len(each[0].parts)))


def eval_folder(dataset: str) -> Path:
    """Return the folder with the test sets: ``NAME.bin``, ``ijb/IJBB``, ``tinyface``, ``scface``."""
    return of(dataset, "eval").folder


def locate(root: Path, place: str) -> Path:
    """Return the path of ``train/...`` or ``eval/...`` in the data set in a folder, in either layout."""
    part, _, rest = place.partition("/")
    return folder(root, part) / rest


def training_names(folder: Path) -> frozenset[str]:
    """Return the names of the training files and folders directly in a folder."""
    if records := record_files(folder):
        beside = {path.with_suffix(suffix).name for path in records for suffix in (".rec", ".idx", ".lst")}
        return frozenset({*beside, "property"})
    people = people_folder(folder)
    if people is None:
        return frozenset()
    return frozenset([people.name]) if people != folder else frozenset(identity_names(folder))


def record_files(folder: Path) -> list[Path]:
    """Return the record files in a folder, by name, except those that a table describes (packed test sets)."""
    return sorted(
        path
        for path in folder.glob("*.rec")
        if not path.name.startswith(".") and path.is_file() and not path.with_suffix(".parquet").exists()
    )


def record_file(folder: Path) -> Path | None:
    """Return the record file to train on: ``train.rec``, or the only one; None if there is none.

    Raises:
        ValueError: there are several, and none is called train.rec.
    """
    found = record_files(folder)
    named = [path for path in found if path.name == "train.rec"] or found
    if len(named) > 1:
        names = ", ".join(path.name for path in named)
        raise InputError(
            f"{folder} holds several record files ({names}), none of them train.rec: give each a folder of its own, "
            f"as a data set with its `root`; `sources: [A, B]` makes one of several"
        )
    return named[0] if named else None


def people_folder(folder: Path) -> Path | None:
    """Return the folder whose subfolders hold the images of one identity each: it, or one in it; None if there is none.

    Two identities are needed: one folder of images is anything.
    """
    if not folder.is_dir() or any((folder / name).exists() for name in _A_TEST_SET):
        return None
    inner = [Path(entry.path) for entry in _subfolders(folder)]
    candidates = [path for path in inner if path.name in WRAPPERS]
    candidates += [folder, *(inner if len(inner) == 1 else ())]
    for candidate in candidates:
        if any((candidate / name).exists() for name in _NO_PEOPLE):
            continue  # a test set, with a folder for each person too
        with closing(identity_names(candidate)) as names:
            if len(list(islice(names, 2))) == 2:
                return candidate
    return None


def identity_names(folder: Path) -> Generator[str]:
    """Yield the subfolders that directly hold an image, in no order."""
    for entry in list(_subfolders(folder)):
        names = {path.name for path in Path(entry.path).iterdir()}
        if any(is_image(name) for name in names) and not names & set(_NO_PEOPLE):
            yield entry.name


def _subfolders(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and entry.name not in TEST_SETS and entry.is_dir():
                yield entry
