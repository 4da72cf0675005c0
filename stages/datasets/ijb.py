"""Reads IJB-B and IJB-C in insightface's layout: loose crops with five landmarks, templates, media, pairs.

    IJBB/loose_crop/NAME.jpg                 or packed (stages/io/packed_images.py)
    IJBB/meta/ijbb_name_5pts_score.txt       NAME, five landmarks as x y in the crop, detector score
    IJBB/meta/ijbb_face_tid_mid.txt          NAME, template, medium; line for line as above
    IJBB/meta/ijbb_template_pair_label.txt   template, template, 1 if one person

    IJBB/meta/ijbb_1N_gallery_S1.csv, _S2.csv (IJB-C: _G1, _G2), ijbb_1N_probe_mixed.csv
                                             TEMPLATE_ID,SUBJECT_ID,FILENAME,...: a line for each image of a template

As AdaFace validation_mixed/validate_IJB_BC.py at c60eaa78 reads them.

Shapes: N images, P pairs or probes, G gallery templates, 5 landmarks, 2 pixel coordinates.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import InputError, UnknownNameError
from stages.core.formats.whole_numbers import whole_number
from stages.core.images.alignment import align
from stages.core.metrics.features import Floats, Image
from stages.core.metrics.processing import Failure, decode
from stages.io import packed_images, text
from stages.io.packed_images import PackedImages

Ids = NDArray[np.int64]

GALLERIES = {"IJBB": ("S1", "S2"), "IJBC": ("G1", "G2")}

CROPS = "loose_crop"

_NAME_FIELDS = 12
_CHUNK = 1 << 20  # lines checked at a time


@dataclass(frozen=True)
class IjbSet:
    """One set: its lists, and its images on demand."""

    name: str
    crops: Path
    names: tuple[str, ...]
    landmarks_N52: NDArray[np.float64]
    detector_score_N: Floats
    template_N: Ids
    media_N: Ids
    first_P: Ids
    second_P: Ids
    is_same_P: NDArray[np.bool_]
    packed: PackedImages | None = None

    def images(self) -> Iterator[Image | Failure]:
        """Yield each aligned image, (112, 112, 3) uint8 BGR, or the reason of its failure."""
        return map(self.image, range(len(self.names)))

    def image(self, row: int) -> Image | Failure:
        """Return one image, as ``images`` does."""
        name = self.names[row]
        try:
            data = packed_images.read(self.packed, self.crops.parent, f"{CROPS}/{name}")
            return align(decode(data), self.landmarks_N52[row])
        except (OSError, ValueError) as error:
            return Failure.of(name, error)


def load(folder: Path, name: str) -> IjbSet:
    """Read and check the lists of one set.

    Args:
        folder: holds ``IJBB`` or ``IJBC``.
        name: which.

    Raises:
        FileNotFoundError: a list or the folder of crops is missing.
        ValueError: a line does not fit, an image is listed twice, the lists disagree, or a pair names a
            template without images; the message names file and line.
    """
    crops, meta = folder / name / CROPS, folder / name / "meta"
    packed = packed_images.find(folder / name)
    if packed is None and not crops.is_dir():
        raise FileNotFoundError(f"{crops} is missing: put the loose crops of {name} there")
    landmark_path = _present(meta / f"{name.lower()}_name_5pts_score.txt")
    template_path = _present(meta / f"{name.lower()}_face_tid_mid.txt")
    pair_path = _present(meta / f"{name.lower()}_template_pair_label.txt")
    names, landmarks_N52, detector_score_N = _read_landmarks(landmark_path)
    template_N, media_N = _read_templates(template_path, names, landmark_path)
    first_P, second_P, is_same_P = _read_pairs(pair_path, template_N, template_path)
    return IjbSet(
        name, crops, names, landmarks_N52, detector_score_N, template_N, media_N,
        first_P, second_P, is_same_P, packed,
    )  # fmt: skip


@dataclass(frozen=True)
class IjbSearch:
    """The 1:N lists, one row per template: both galleries, one template per subject, and the mixed probes."""

    gallery_template_G: Ids
    gallery_subject_G: Ids
    gallery_set_G: Ids  # 1 or 2
    probe_template_P: Ids
    probe_subject_P: Ids


def load_search(folder: Path, name: str) -> IjbSearch:
    """Read and check the 1:N lists of one set; templates in the order of their first listing.

    Probes without a mate stay, and so do templates that ``load`` knows no image of: the protocol counts them.

    Args:
        folder: holds ``IJBB`` or ``IJBC``.
        name: which.

    Raises:
        FileNotFoundError: a list is missing.
        LookupError: no such set.
        ValueError: a line does not fit, a template has two subjects, or a subject has two gallery templates
            (AdaFace's ``gen_mask`` raises there too); the message names file and line.
    """
    if name not in GALLERIES:
        raise UnknownNameError(f"no IJB set {name!r} with 1:N lists: there are {', '.join(GALLERIES)}")
    meta = folder / name / "meta"
    paths = [_present(meta / f"{name.lower()}_1N_gallery_{gallery}.csv") for gallery in GALLERIES[name]]
    probe_path = _present(meta / f"{name.lower()}_1N_probe_mixed.csv")
    owner: dict[int, int] = {}
    enrolled: dict[int, int] = {}  # template of each subject in the galleries
    galleries = [_read_roster(path, owner, enrolled) for path in paths]
    probes = _read_roster(probe_path, owner, None)
    sizes = [len(roster) for roster in galleries]
    gallery = np.array([*galleries[0], *galleries[1]], dtype=np.int64).reshape(-1, 2)
    return IjbSearch(gallery[:, 0], gallery[:, 1], np.repeat(np.array([1, 2]), sizes), *np.array(probes).T)


def _read_roster(path: Path, owner: dict[int, int], enrolled: dict[int, int] | None) -> list[tuple[int, int]]:
    """Return template and subject of each template of a list; the dictionaries record what was seen."""
    roster: dict[int, int] = {}
    for where, template, subject in _read_csv(path):
        if owner.setdefault(template, subject) != subject:
            raise InputError(f"{where}: template {template} is of subject {subject}, elsewhere of {owner[template]}")
        if enrolled is not None and enrolled.setdefault(subject, template) != template:
            raise InputError(
                f"{where}: subject {subject} has the gallery templates {enrolled[subject]} and {template}, wanted one"
            )
        roster[template] = subject
    if not roster:
        raise InputError(f"{path} lists no templates")
    return list(roster.items())


def _read_csv(path: Path) -> Iterator[tuple[str, int, int]]:
    """Yield place, template and subject of each line under the header."""
    try:
        with path.open(encoding=text.encoding_of(path), newline="") as stream:
            reader = csv.reader(stream)
            next(reader, None)
            for fields in reader:
                where = f"{path}, line {reader.line_num}"
                if not any(fields):
                    continue
                template, subject = (whole_number(value) for value in (*fields, "", "")[:2])
                if template is None or subject is None:
                    raise InputError(f"{where}: wanted TEMPLATE_ID,SUBJECT_ID,..., got {','.join(fields)[:80]!r}")
                yield where, template, subject
    except csv.Error as error:
        raise InputError(f"{path} cannot be read as CSV: {error}") from error


def _present(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: it is part of the data set's meta folder in insightface's layout")
    return path


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number, from 1, and the fields of each line that is not blank."""
    with path.open(encoding=text.encoding_of(path)) as stream:
        for number, line in enumerate(stream, start=1):
            fields = line.split()
            if fields:
                yield number, fields


def _read_landmarks(path: Path) -> tuple[tuple[str, ...], NDArray[np.float64], Floats]:
    names: dict[str, int] = {}
    rows: list[list[float]] = []
    for number, fields in _lines(path):
        if len(fields) != _NAME_FIELDS:
            raise InputError(f"{path}, line {number}: wanted a name and 11 numbers, got {len(fields)} fields")
        if fields[0] in names:
            raise InputError(f"{path}, line {number}: {fields[0]} is also in line {names[fields[0]]}")
        try:
            rows.append([float(value) for value in fields[1:]])
        except ValueError as error:
            raise InputError(f"{path}, line {number}: wanted a name and 11 numbers: {error}") from error
        names[fields[0]] = number
    if not rows:
        raise InputError(f"{path} lists no images")
    table = np.array(rows, dtype=np.float64)
    return tuple(names), table[:, :10].reshape(-1, 5, 2), table[:, 10].astype(np.float32)


def _read_templates(path: Path, names: tuple[str, ...], landmark_path: Path) -> tuple[Ids, Ids]:
    ids: list[tuple[int, int]] = []
    for number, fields in _lines(path):
        if len(fields) != 3:
            raise InputError(f"{path}, line {number}: wanted a name, a template and a medium, got {len(fields)} fields")
        if len(ids) == len(names) or fields[0] != names[len(ids)]:
            expected = names[len(ids)] if len(ids) < len(names) else "no further image"
            raise InputError(f"{path}, line {number}: got {fields[0]} where {landmark_path.name} has {expected}")
        template, medium = whole_number(fields[1]), whole_number(fields[2])
        if template is None or medium is None:
            raise InputError(
                f"{path}, line {number}: template and media should be whole numbers, got {' '.join(fields[1:])[:80]!r}"
            )
        ids.append((template, medium))
    if len(ids) != len(names):
        raise InputError(f"{path} ends after {len(ids)} images, {landmark_path.name} has {len(names)}")
    table = np.array(ids, dtype=np.int64)
    return table[:, 0], table[:, 1]


def _read_pairs(path: Path, template_N: Ids, template_path: Path) -> tuple[Ids, Ids, NDArray[np.bool_]]:
    """Return both templates and the answer of each pair, with few copies: IJB-C has 15.7 million pairs."""
    if next(_lines(path), None) is None:
        raise InputError(f"{path} lists no pairs")
    try:
        pair_P3 = np.loadtxt(path, dtype=np.int32, comments=None, ndmin=2, encoding=text.encoding_of(path))
    except (ValueError, OverflowError):
        pair_P3 = None
    if pair_P3 is None or pair_P3.shape[1] != 3:
        raise InputError(_first_bad_pair(path))
    known = np.unique(template_N)
    for begin in range(0, len(pair_P3), _CHUNK):
        _check_pairs(pair_P3[begin : begin + _CHUNK], known, begin, path, template_path)
    return pair_P3[:, 0].astype(np.int64), pair_P3[:, 1].astype(np.int64), pair_P3[:, 2] == 1


def _check_pairs(pair_P3: NDArray[np.int32], known: Ids, before: int, path: Path, template_path: Path) -> None:
    known_P2 = np.isin(pair_P3[:, :2], known)
    if not known_P2.all():
        row = int(np.argmin(known_P2.all(axis=1)))
        missing = pair_P3[row, int(np.argmin(known_P2[row]))]
        line = _line_of(path, before + row)
        raise InputError(f"{path}, line {line}: no image of template {missing} in {template_path.name}")
    odd_P = (pair_P3[:, 2] != 0) & (pair_P3[:, 2] != 1)
    if odd_P.any():
        row = int(np.argmax(odd_P))
        line = _line_of(path, before + row)
        raise InputError(f"{path}, line {line}: the label should be 0 or 1, got {pair_P3[row, 2]}")


def _line_of(path: Path, row: int) -> int:
    return next(number for index, (number, _) in enumerate(_lines(path)) if index == row)


def _first_bad_pair(path: Path) -> str:
    """Return the error of the first line that the fast reader could not parse."""
    for number, fields in _lines(path):
        if len(fields) != 3 or not all(value.removeprefix("-").isascii() and value.isdigit() for value in fields):
            return f"{path}, line {number}: wanted two templates and a label, got {' '.join(fields)[:80]!r}"
    return f"{path} cannot be read as three columns of whole numbers"
