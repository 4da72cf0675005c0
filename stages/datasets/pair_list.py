"""Reads sets of pairs in files: Adience, XQLFW, and pairs of one's own.

CR-FIQA's layout, made by its feature_extraction/extract_{adience,xqlfw,bin}.py at a8f98da6:

    NAME/images/FACE.jpg
    NAME/pair_list.txt          FACE FACE 1 (one person) or 0, with or without .jpg
                                none in Adience's p_PERSON_img_NUMBER.jpg: then all pairs of its images

XQLFW as it is published:

    NAME/xqlfw_pairs.txt        10 300, then per fold 300 lines PERSON K K and 300 lines PERSON K PERSON K
    NAME/xqlfw_aligned_112/PERSON/PERSON_0001.jpg

Pairs of one's own, of pictures in the same folder (stages/core/formats/pairs_csv.py):

    NAME/pairs.csv              a,b,same[,fold][,group][,identity_a,identity_b]

The images of each may be packed (stages/io/packed_images.py).

CR-FIQA's scripts write RGB arrays with ``cv2.imwrite``: in their files red and blue have changed places.

Shapes: N images, P pairs.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.core.errors import InputError
from stages.core.formats import pairs_csv
from stages.core.formats.whole_numbers import whole_number
from stages.core.metrics.features import Image
from stages.core.metrics.processing import Failure, decode_aligned
from stages.io import packed_images, text
from stages.io.packed_images import PackedImages

IMAGES = "images"
PAIRS, PUBLISHED_PAIRS, PUBLISHED_IMAGES = "pair_list.txt", "xqlfw_pairs.txt", "xqlfw_aligned_112"
OWN_PAIRS = "pairs.csv"

_ADIENCE = re.compile(r"p_(\d+)_img_\d+")
_EXTENSIONS = (".jpg", ".jpeg", ".png")
_CHUNK = 1 << 20  # lines read at a time: Adience has 188 million


@dataclass(frozen=True)
class PairSet:
    """The distinct images, in the order in which pairs name them, and the pairs as rows of them."""

    name: str
    folder: Path  # names are relative to it
    names: tuple[str, ...]
    first_P: NDArray[np.int32]
    second_P: NDArray[np.int32]
    is_same_P: NDArray[np.bool_]
    swapped: bool
    fold_P: NDArray[np.int64] | None = None  # of each pair, from 0; None: ten runs in list order
    group_P: NDArray[np.int64] | None = None  # rows of ``groups``, -1: in none; None: there are no groups
    groups: tuple[str, ...] = ()
    identity_N: NDArray[np.int64] | None = None  # who is on each image; None if the list does not say
    identity_from: str = ""  # what says so
    packed: PackedImages | None = None

    def images(self) -> Iterator[Image | Failure]:
        """Yield each image, (112, 112, 3) uint8 BGR, or the reason of its failure."""
        return map(self.image, range(len(self.names)))

    def image(self, row: int) -> Image | Failure:
        """Return one image, as ``images`` does."""
        name = self.names[row]
        try:
            image = decode_aligned(packed_images.read(self.packed, self.folder, name))
        except (OSError, ValueError) as error:
            return Failure.of(name, error)
        return np.ascontiguousarray(image[..., ::-1]) if self.swapped else image


def is_layout(folder: Path) -> bool:
    """Return whether a folder is in one of the layouts above, as far as its names tell."""
    packed = packed_images.find(folder)
    has_images = (folder / IMAGES).is_dir() or (packed is not None and bool(packed.names(IMAGES)))
    return has_images or any((folder / name).is_file() for name in (PUBLISHED_PAIRS, OWN_PAIRS))


def load(folder: Path, *, swapped: bool = False) -> PairSet:
    """Read and check the pairs of one set.

    Args:
        folder: in one of the layouts above; its name is the set's.
        swapped: the files hold red and blue in each other's place, as CR-FIQA's scripts leave them.

    Raises:
        FileNotFoundError: the pairs or the images are missing.
        ValueError: a line does not fit, two images of one name, or no pairs; file and line are named.
    """
    packed = packed_images.find(folder)
    if (folder / OWN_PAIRS).is_file():
        return replace(_load_own(folder), packed=packed)
    if (folder / IMAGES).is_dir() or (packed is not None and packed.names(IMAGES)):
        files = _files(folder, packed)
        found = _load_list(folder, files, swapped) if (folder / PAIRS).is_file() else _load_all(folder, files, swapped)
        return replace(found, packed=packed)
    if (folder / PUBLISHED_PAIRS).is_file() and (packed is not None or (folder / PUBLISHED_IMAGES).is_dir()):
        return replace(_load_published(folder, swapped), packed=packed)
    raise FileNotFoundError(
        f"{folder} should hold images/ and {PAIRS} (CR-FIQA's layout), or {PUBLISHED_PAIRS} and {PUBLISHED_IMAGES}/, "
        f"or {OWN_PAIRS} and the pictures that it names"
    )


def _load_own(folder: Path) -> PairSet:
    path = folder / OWN_PAIRS
    lines = text.read_lines(path)
    try:
        table = pairs_csv.parse("\n".join(lines))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return PairSet(
        folder.name, folder, table.names, table.first_P, table.second_P, table.is_same_P, False,
        table.fold_P, table.group_P, table.groups, table.identity_N, table.identity_from,
    )  # fmt: skip


def _files(folder: Path, packed: PackedImages | None) -> dict[str, str]:
    """Return the file of each stem, sorted."""
    images, files = folder / IMAGES, dict[str, str]()
    paths = sorted(images.iterdir() if packed is None else (images / name for name in packed.names(IMAGES)))
    for path in paths:
        if path.suffix.lower() in _EXTENSIONS and not path.name.startswith("."):
            if path.stem in files:
                raise InputError(f"{path} and {files[path.stem]} have the same name {path.stem}: remove one")
            files[path.stem] = path.name
    return files


def _load_list(folder: Path, files: Mapping[str, str], swapped: bool) -> PairSet:
    path = folder / PAIRS
    rows: dict[str, int] = {}
    parts: list[NDArray[np.int32]] = []
    parts.extend(_read_chunk(chunk, rows, path) for chunk in _chunks(path))
    pair_P3 = np.concatenate(parts) if parts else np.empty((0, 3), np.int32)
    if not len(pair_P3):
        raise InputError(f"{path} lists no pairs")
    names = tuple(f"images/{files.get(stem, stem + '.jpg')}" for stem in rows)
    return PairSet(folder.name, folder, names, pair_P3[:, 0], pair_P3[:, 1], pair_P3[:, 2] == 1, swapped)


def _chunks(path: Path) -> Iterator[pd.DataFrame]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pd.errors.ParserWarning)  # of a longer first line: `more` refuses it
            yield from pd.read_csv(
                path, sep=r"\s+", header=None, names=["a", "b", "same", "more"], index_col=False, dtype=str,
                chunksize=_CHUNK, encoding=text.encoding_of(path), quoting=3, na_filter=False, skip_blank_lines=False,
                comment=None,
            )  # fmt: skip
    except pd.errors.EmptyDataError:
        return
    except pd.errors.ParserError as error:
        raise InputError(f"{path} cannot be read as lines of two images and 0 or 1: {str(error).strip()}") from error


def _read_chunk(chunk: pd.DataFrame, rows: dict[str, int], path: Path) -> NDArray[np.int32]:
    """Return (rows, 3) of numbers; new names are added to ``rows``."""
    filled = chunk[(chunk["a"] != "") | (chunk["b"] != "")]
    good = filled["same"].isin(["0", "1"]) & (filled["more"].fillna("") == "") & (filled["b"] != "")
    if not good.all():
        line = int(filled.index[int(np.argmin(good.to_numpy()))]) + 1
        raise InputError(f"{path}, line {line}: wanted two images and 0 or 1, got {_shown(chunk.loc[line - 1])!r}")
    stems = [filled[column].str.replace(r"\.(?:jpe?g|png)$", "", case=False, regex=True) for column in ("a", "b")]
    # the order in which the lines name them
    for stem in pd.unique(np.stack([one.to_numpy(dtype=object) for one in stems], axis=1).ravel()):
        rows.setdefault(str(stem), len(rows))
    columns = [one.map(rows).to_numpy(dtype=np.int32) for one in stems]
    return np.stack([*columns, (filled["same"] == "1").to_numpy(dtype=np.int32)], axis=1)


def _shown(fields: pd.Series) -> str:
    return " ".join(str(value) for value in fields if str(value) not in ("", "nan"))[:80]


def _load_all(folder: Path, files: Mapping[str, str], swapped: bool) -> PairSet:
    """Return all pairs of Adience: the person is part of the file name."""
    people: list[int] = []
    row_of: dict[str, int] = {}
    for stem in files:
        form = _ADIENCE.fullmatch(stem)
        if not form:
            raise FileNotFoundError(
                f"{folder / PAIRS} is missing, and {files[stem]} is not called p_PERSON_img_NUMBER.jpg as Adience's are"
            )
        people.append(row_of.setdefault(form[1], len(row_of)))
    if len(people) < 2:
        raise InputError(f"{folder / 'images'} holds {len(people)} images, too few for a pair")
    names = tuple(f"images/{file}" for file in files.values())
    return PairSet(folder.name, folder, names, *_all_pairs(np.array(people)), swapped)


def _all_pairs(person_N: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.bool_]]:
    """Return every pair of rows, the lower first, and whether both show one person.

    Written in place: of Adience's 188 million pairs ``np.triu_indices`` alone would take 3 GB more.
    """
    num_images = person_N.size
    num_pairs = num_images * (num_images - 1) // 2
    first_P, second_P = np.empty(num_pairs, np.int32), np.empty(num_pairs, np.int32)
    is_same_P = np.empty(num_pairs, np.bool_)
    rows_N = np.arange(num_images, dtype=np.int32)
    begin = 0
    for row in range(num_images - 1):
        end = begin + num_images - 1 - row
        first_P[begin:end], second_P[begin:end] = row, rows_N[row + 1 :]
        is_same_P[begin:end] = person_N[row + 1 :] == person_N[row]
        begin = end
    return first_P, second_P, is_same_P


def _load_published(folder: Path, swapped: bool) -> PairSet:
    path = folder / PUBLISHED_PAIRS
    lines = text.read_lines(path)
    rows: dict[str, int] = {}
    pairs: list[tuple[int, int, bool]] = []
    for number, line in enumerate(lines[1:], start=2):
        fields = line.split()
        if not fields:
            continue
        numbers = [whole_number(fields[1]), whole_number(fields[-1])] if len(fields) in (3, 4) else [None]
        if None in numbers:
            raise InputError(f"{path}, line {number}: wanted PERSON K K or PERSON K PERSON K, got {line[:80]!r}")
        people = (fields[0], fields[0] if len(fields) == 3 else fields[2])
        names = [f"{who}/{who}_{k:04d}.jpg" for who, k in zip(people, numbers, strict=True)]
        first, second = (rows.setdefault(f"{PUBLISHED_IMAGES}/{name}", len(rows)) for name in names)
        pairs.append((first, second, len(fields) == 3))
    if not pairs:
        raise InputError(f"{path} lists no pairs")
    _check_number(path, lines[0], len(pairs))
    pair_P3 = np.array(pairs, dtype=np.int32)
    return PairSet(folder.name, folder, tuple(rows), pair_P3[:, 0], pair_P3[:, 1], pair_P3[:, 2] == 1, swapped)


def _check_number(path: Path, first: str, num_pairs: int) -> None:
    """Refuse a list that is shorter or longer than its first line says: folds, and pairs of each kind in a fold."""
    numbers = [whole_number(field) for field in first.split()]
    if len(numbers) != 2 or None in numbers:
        raise InputError(f"{path}, line 1: wanted how many folds, and pairs of a kind in each, got {first[:60]!r}")
    wanted = 2 * math.prod(number or 0 for number in numbers)
    if wanted != num_pairs:
        raise InputError(f"{path}: its first line says {wanted} pairs, it lists {num_pairs}: was it cut short?")
