"""Pins of people's own data sets: a list of what a folder holds, on which stages depend in the folder's stead.

For each data set with a `root` in params.yaml it writes data/NAME/train/contents.txt: a line per file with MD5, bytes
and path. data/NAME/eval/contents.txt never changes: test sets are pinned one by one (``stages.runtime.set_pins``). The
folder itself is read where it is. No path of DVC's leads into it, neither directly nor through a link, so that no
command of DVC's can write or remove anything there. The same files in another place, or in the other layout
(``stages.runtime.places``), have the same list, so that nothing runs again.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from stages.core.errors import InputError
from stages.runtime import artifacts, files, locks, merged, places
from stages.runtime.merged import Merged
from stages.runtime.places import PARTS, Place
from stages.runtime.progress import Progress

PIN = "contents.txt"
ABSENT, ABSENT_TEXT = "no-training-set.txt", "The folder of this data set has no training files.\n"
"""Instead of a list, where a folder has test sets alone: so that DVC finds the folder that `unpack` depends on."""
SETS = "sets"
"""Folder of the lists of single test sets, beside those of the parts."""
BY_SET = "The test sets lie in a folder of yours: pins/RUN.yaml has the digest of each set that RUN reads.\n"
"""On which every evaluation of an own data set depends: it never changes."""
SYNTHETIC = "truth.parquet"
"""A file that every part of a synthetic data set has."""
SETTLED_S = 2.0
"""A file changed so lately may change again with the same size and time: its digest is not kept."""

NOWHERE = "0" * 32
"""In place of the digest of a link that leads nowhere."""

Known = Mapping[str, list[Any]]


def pin_all(tree: Mapping[str, Any]) -> None:
    """Pin every data set of params.yaml that has a ``root``, and refuse what would put a person's files at risk.

    Raises:
        FileNotFoundError: a root is not there.
        ValueError: an entry is both synthetic and a person's own, or other files are where a pin or synthetic set goes.
    """
    roots, together = roots_of(tree), merged.described(tree)
    for name in tree.get("synthetic") or {}:
        refuse_foreign(name)
    for name, root in roots.items():
        refuse_in_the_way(name, root)
    for name, root in roots.items():
        place = together[name] if name in together else places.find(root, "train")
        pin(place, artifacts.DATA / name / "train")
        write_list(artifacts.DATA / name / "eval" / PIN, BY_SET)


def roots_of(tree: Mapping[str, Any]) -> dict[str, Path]:
    """Return the folders that params.yaml names under ``datasets``, by data set: of a merged one its first source's.

    Raises:
        ValueError: one of them is synthetic too, or has a name that the pipeline uses itself.
    """
    described = {name: (entry or {}).get("root") for name, entry in (tree.get("datasets") or {}).items()}
    for name in [*described, *(tree.get("synthetic") or {})]:
        if name == artifacts.UNPACKED:
            raise InputError(f"params.yaml: a data set called {name} cannot be: data/{name} is that of `unpack`")
    refuse_both(described, tree.get("synthetic") or {}, "params.yaml")
    roots = {name: places.anchored(str(root)) for name, root in described.items() if root is not None}
    return roots | {name: both.root for name, both in merged.described(tree).items()}


def refuse_both(roots: Mapping[str, Any], synthetic: Mapping[str, Any], where: str) -> None:
    """Refuse a data set that is synthetic and a person's own at once.

    Args:
        roots: the folder of each data set, None if it has none.
        synthetic: the section of this name.
        where: the file that has that section.

    Raises:
        ValueError: there is one; the message says what to remove.
    """
    for name, folder in roots.items():
        if folder is not None and name in synthetic:
            raise InputError(
                f"{where}, {name}: it is under `synthetic` and datasets.{name}.root is {folder} (a folder of "
                f"yours): remove one of the two, or give the folder a name of its own under `datasets`"
            )


def refuse_foreign(name: str) -> None:
    """Refuse what stands where a synthetic set is rendered and was not rendered: DVC removes that before it renders.

    Raises:
        ValueError: there is a link, or files that no stage wrote.
    """
    home = artifacts.DATA / name
    for path in (home, *(home / part for part in PARTS)):
        if path.is_symlink():
            raise InputError(
                f"{path} is a link to {path.readlink()}, and {name} is rendered there (`synthetic` in params.yaml): "
                f"remove the link, or name the folder by datasets.NAME.root under a name that is not synthetic"
            )
        names = {entry.name for entry in path.iterdir()} if path != home and path.is_dir() else set()
        if names and not names & {SYNTHETIC, PIN, ABSENT}:
            raise InputError(
                f"{path} holds files that nobody rendered, and {name} is rendered there (`synthetic` in params.yaml): "
                f"move them away and name their folder by datasets.NAME.root under a name that is not synthetic"
            )


def refuse_in_the_way(name: str, root: Path) -> None:
    """Refuse a root that is not there or holds its own pin, and anything but pins where the pins of ``name`` go.

    A link at data/NAME to the root itself is removed (the link alone): nothing needs one.
    """
    home = artifacts.DATA / name
    if not root.is_dir():
        raise FileNotFoundError(f"datasets.{name}.root: no folder {root}; it should hold training files and test sets")
    if home.is_symlink() and home.resolve() == root.resolve() and root.absolute() != home.absolute():
        home.unlink()
    for path in (home, *(home / part for part in (*PARTS, SETS))):
        if path.is_symlink():
            raise InputError(
                f"{path} is a link to {path.readlink()}, and datasets.{name}.root is {root}: remove the link"
            )
        names = {entry.name for entry in path.iterdir()} if path not in (home, home / SETS) and path.is_dir() else set()
        if any(one not in (PIN, ABSENT) and not one.endswith(".partial") for one in names):
            raise InputError(
                f"{path} holds a data set of its own, and datasets.{name}.root is {root}: move or remove {home}, "
                f"or give the folder another name under `datasets`"
            )
    reals = [places.folder(root, part).resolve() for part in PARTS]
    for real, own in itertools.product(reals, ((home / part).resolve() for part in (*PARTS, SETS))):
        if real.is_relative_to(own) or own.is_relative_to(real):
            raise InputError(
                f"datasets.{name}.root is {root}, where the list of its files would be written: wanted a folder "
                f"outside {home}"
            )


def pin(place: Place | Merged, target: Path) -> None:
    """List what a place, or the sources of a merged set, hold in ``target``; say so where there is no training set."""
    path = target / PIN
    if isinstance(place, Place) and not place.is_filled():
        path.unlink(missing_ok=True)
        write_list(target / ABSENT, ABSENT_TEXT)
        return
    (target / ABSENT).unlink(missing_ok=True)
    write_list(path, place.listing(listing) if isinstance(place, Merged) else listing(place))


def write_list(path: Path, text: str) -> None:
    """Write a list or digests, unless they are there already."""
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        with files.replacing(path, shared=True) as aside:
            aside.write_text(text, encoding="utf-8")


def checked(dataset: str) -> Path:
    """Return the folder with the training set of a data set, once it is known to hold what was pinned.

    Raises:
        ValueError: files differ from the pin; the message names the first.
    """
    place, path = places.of(dataset, "train"), artifacts.DATA / dataset / "train" / PIN
    if path.is_file():
        both = merged.of(dataset)
        wanted, found = path.read_text(encoding="ascii"), both.listing(listing) if both else listing(place)
        if wanted != found:
            raise InputError(
                f"{place.folder} is not what it was when {path} was written, {first_difference(wanted, found)}: "
                f"`facet run` or `dvc repro -f resolve` lists it again, and what depends on it is made anew"
            )
    return place.folder


def first_difference(wanted: str, found: str) -> str:
    """Return how many files differ between two lists, and the first, as part of a sentence."""
    there, here = ({line.split(" ", 2)[2]: line for line in text.splitlines()} for text in (wanted, found))
    differing = sorted(path for path in there.keys() | here.keys() if there.get(path) != here.get(path))
    return f"{len(differing)} files differ, the first is {differing[0]}" if differing else "its sources changed places"


def listing(place: Place, names: Sequence[str] = ()) -> str:
    """Return the list of what a place holds: a line per file with MD5, bytes and path, sorted by path.

    Linked folders in it count with what they hold; hidden files and folders (``.x``) are no data.

    Args:
        place: paths are relative to its folder.
        names: files and folders of the place that count; all of it if none is given.
    """
    home = place.folder.resolve()
    part = b"" if not place.is_shared else b"/train" if place.only is not None else b"/eval"
    key = hashlib.sha256(b"\0".join([os.fsencode(home) + part, *map(os.fsencode, names)]))
    memory = artifacts.STATE / "pins" / f"{key.hexdigest()[:24]}.json"
    # who comes second finds what the first has read
    with locks.held(memory.with_suffix(".lock")):
        return _listing(home, place, names, memory)


def _listing(home: Path, place: Place, names: Sequence[str], memory: Path) -> str:
    known: Known = artifacts.read_json(memory) if memory.is_file() else {}
    found = {path: _look(home, path) for path in sorted(_files(home, place, names))}
    new = [path for path, seen in found.items() if known.get(path, [])[:2] != seen]
    digests = {path: str(known[path][2]) for path in found.keys() - set(new)} | _digests(home, new)
    latest_ns = (time.time() - SETTLED_S) * 1e9
    kept = {path: [*seen, digests[path]] for path, seen in found.items() if seen[1] < latest_ns}
    if kept != known:
        with artifacts.write_file(memory) as aside:
            aside.write_text(json.dumps(kept), encoding="ascii")
    return "".join(f"{digests[path]} {seen[0]} {json.dumps(path)}\n" for path, seen in found.items())


def _look(home: Path, path: str) -> list[Any]:
    try:
        # hundreds of thousands of files: making a Path of each costs more than looking
        seen = os.stat(f"{home}/{path}")  # noqa: PTH116
    except FileNotFoundError:
        return [0, 0]  # a link that leads nowhere: listed, so that mending it counts; who reads it counts it as bad
    return [seen.st_size, seen.st_mtime_ns]


def _digests(home: Path, paths: list[str]) -> dict[str, str]:
    if not paths:
        return {}
    progress, found = Progress(f"list {home.name}", len(paths), "files"), {}
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for path, digest in zip(paths, pool.map(lambda path: _md5(home / path), paths), strict=True):
            found[path] = digest
            progress.advance(1)
    return found


def _md5(path: Path) -> str:
    try:
        stream = path.open("rb")
    except FileNotFoundError:
        return NOWHERE
    with stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _files(home: Path, place: Place, names: Sequence[str]) -> Iterator[str]:
    """Yield the paths of all files of a place, through links to folders too, each folder once on a way down."""
    waiting: list[tuple[str, frozenset[str]]] = [] if names else [("", frozenset([str(home)]))]
    for name in names:
        if (home / name).is_dir():
            waiting.append((f"{name}/", frozenset([str(home), os.path.realpath(home / name)])))
        else:
            yield name
    while waiting:
        prefix, above = waiting.pop()
        for entry in os.scandir(home / prefix):
            path = prefix + entry.name
            if entry.name.startswith(".") or not (prefix or place.holds(entry.name)):
                continue
            if entry.is_dir():
                real = os.path.realpath(entry.path)
                if real not in above:  # a link to a folder around it has no end
                    waiting.append((path + "/", above | {real}))
            elif entry.is_symlink() or stat.S_ISREG(entry.stat().st_mode):
                yield path
