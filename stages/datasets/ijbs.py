"""Reads IJB-S from NIST's protocol folder and aligned faces: five searches of surveillance video, two galleries each.

    ijbs/protocols/cs6_metadata.csv                                       SUBJECT_ID,FILENAME,...
    ijbs/protocols/cs6_surveillance_to_single-booking_probe.csv           FILENAME
    ijbs/protocols/cs6_surveillance_to_surveillance_probe.csv             FILENAME
    ijbs/protocols/cs6_uav_to_single-booking_probe.csv                    FILENAME
    ijbs/protocols/galleries/cs6_surveillance_to_{single,booking,surveillance}_g{1,2}.csv   ID,SUBJECT_ID,FILENAME,...
    ijbs/aligned/SUBJECT/videos_VIDEO_FRAME.jpg, ijbs/aligned/SUBJECT/img_NUMBER.jpg
                                                or packed (stages/io/packed_images.py)
    ijbs/image_list*.csv                        optional: the column ``path`` says which faces count

Templates as AdaFace validation_lq/PFE/ijbs.py at c60eaa78 makes them; its order of templates is a Python set's, ours
is sorted. Faces that could not be aligned are simply not there: a template without any stays, empty.

Shapes: N faces, T templates, K memberships: a face of a video is in its template and in the multi-view one.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import InputError
from stages.core.formats.whole_numbers import whole_number
from stages.core.metrics.features import Image
from stages.core.metrics.processing import Failure, decode_aligned
from stages.io import packed_images, text
from stages.io.packed_images import PackedImages

Ids = NDArray[np.int64]

PROTOCOLS = (
    "surveillance_to_single", "surveillance_to_booking", "multiview_surveillance_to_booking",
    "surveillance_to_surveillance", "uav_surveillance_to_booking",
)  # fmt: skip
PROBE_FILES = {
    "single": "cs6_surveillance_to_single-booking_probe.csv",
    "surveillance": "cs6_surveillance_to_surveillance_probe.csv",
    "uav": "cs6_uav_to_single-booking_probe.csv",
}
GALLERY_FILES = {
    (kind, number): f"galleries/cs6_surveillance_to_{kind}_g{number}.csv"
    for kind in ("single", "booking", "surveillance")
    for number in (1, 2)
}
METADATA = "cs6_metadata.csv"
ALIGNED = "aligned"

_FACE = re.compile(r"(videos_[^_]+)_\d+|(img_\d+)")


@dataclass(frozen=True)
class IjbsSet:
    """The faces that templates use, the templates, and for each protocol the rows of its probes and galleries."""

    aligned: Path
    names: tuple[str, ...]  # SUBJECT/FILE
    frame_template: tuple[Ids, Ids]  # face of each membership, template of each
    subject_T: Ids
    template_name_T: tuple[str, ...]
    probes: dict[str, Ids]
    gallery1: dict[str, Ids]
    gallery2: dict[str, Ids]
    num_unused: int  # faces that belong to no template
    packed: PackedImages | None = None

    def images(self) -> Iterator[Image | Failure]:
        """Yield each face, (112, 112, 3) uint8 BGR, or the reason of its failure."""
        return map(self.image, range(len(self.names)))

    def image(self, row: int) -> Image | Failure:
        """Return one face, as ``images`` does."""
        name = self.names[row]
        try:
            return decode_aligned(packed_images.read(self.packed, self.aligned.parent, f"{ALIGNED}/{name}"))
        except (OSError, ValueError) as error:
            return Failure.of(name, error)


def load(folder: Path) -> IjbsSet:
    """Read and check the lists.

    Raises:
        FileNotFoundError: a list or the folder of faces is missing.
        ValueError: a line does not fit, a subject stands twice in the galleries of a protocol, a list names a video
            or image that the metadata lack, or a face's name is of no known form; file and line are named.
    """
    protocols, aligned = folder / "protocols", folder / ALIGNED
    packed = packed_images.find(folder)
    if packed is None and not aligned.is_dir():
        raise FileNotFoundError(f"{aligned} is missing: put the aligned faces of IJB-S there, SUBJECT/videos_1_2.jpg")
    made = _Templates(*_read_metadata(protocols / METADATA))
    single, seen = (made.add_videos(protocols / PROBE_FILES[kind]) for kind in ("single", "surveillance"))
    probes = [single, single, made.add_multiview(seen), seen, made.add_uav(protocols / PROBE_FILES["uav"])]
    galleries: list[list[Ids]] = []
    for number in (1, 2):
        paths = {kind: protocols / GALLERY_FILES[kind, number] for kind in ("single", "booking", "surveillance")}
        ones, booked = made.add_singles(paths["single"]), made.add_bookings(paths["booking"])
        galleries.append([ones, booked, booked, made.add_gallery_videos(paths["surveillance"]), booked])
    subject_T = np.array(made.subjects, dtype=np.int64)
    for protocol, first, second in zip(PROTOCOLS, *galleries, strict=True):
        _refuse_twins(subject_T[np.concatenate([first, second])], f"{protocols / 'galleries'}, {protocol}")
    names, num_unused, frame_template = _assign(list(faces(folder, packed)), made)
    tables = [dict(zip(PROTOCOLS, rows, strict=True)) for rows in (probes, *galleries)]
    return IjbsSet(
        aligned, names, frame_template, subject_T, tuple(made.names), tables[0], tables[1], tables[2], num_unused,
        packed,
    )  # fmt: skip


def _rows(path: Path, num_fields: int) -> Iterator[tuple[str, list[str]]]:
    """Yield place and fields of each line under the header of a CSV file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: it is one of NIST's IJB-S lists")
    try:
        with path.open(encoding=text.encoding_of(path), newline="") as stream:
            reader = csv.reader(stream)
            next(reader, None)
            for fields in reader:
                if not any(fields):
                    continue
                if len(fields) < num_fields:
                    raise InputError(
                        f"{path}, line {reader.line_num}: wanted {num_fields} fields or more, got {len(fields)}"
                    )
                yield f"{path}, line {reader.line_num}", [value.strip() for value in fields]
    except csv.Error as error:
        raise InputError(f"{path} cannot be read as CSV: {error}") from error


def _read_metadata(path: Path) -> tuple[dict[str, list[int]], dict[str, int]]:
    """Return the subjects of each video, ascending, and the first subject of each image."""
    videos: dict[str, set[int]] = {}
    images: dict[str, int] = {}
    for where, (subject, file, *_) in _rows(path, 2):
        if file.startswith("videos"):
            videos.setdefault(file, set()).add(_number(subject, where))
        else:
            images.setdefault(file, _number(subject, where))
    if not videos:
        raise InputError(f"{path} lists no videos (videos/NUMBER.mp4)")
    return {video: sorted(subjects) for video, subjects in sorted(videos.items())}, images


def _number(text: str, where: str) -> int:
    number = whole_number(text)
    if number is None:
        raise InputError(f"{where}: a subject should be a whole number, got {text[:40]!r}")
    return number


@dataclass
class _Templates:
    """Templates, created on request, each once."""

    videos: dict[str, list[int]]  # subjects of each
    images: dict[str, int]  # subject of each
    subjects: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    sources: list[list[str]] = field(default_factory=list)  # SUBJECT/STEM of its videos and images
    row_of: dict[tuple[str, int, tuple[str, ...]], int] = field(default_factory=dict)

    def add(self, kind: str, subject: int, files: Sequence[str]) -> int:
        key = (kind, subject, tuple(files))
        if key not in self.row_of:
            self.row_of[key] = len(self.subjects)
            self.subjects.append(subject)
            shown = kind if kind in ("booking", "multiview") else files[0]
            self.names.append(f"{subject}:{shown}")
            self.sources.append([f"{subject}/{_stem(file)}" for file in files])
        return self.row_of[key]

    def add_videos(self, path: Path) -> Ids:
        """Add probes: each subject in each listed video."""
        rows = []
        for where, (video, *_) in _rows(path, 1):
            if video not in self.videos:
                raise InputError(f"{where}: {METADATA} has no {video!r}")
            rows += [self.add("video", subject, [video]) for subject in self.videos[video]]
        return _ids(rows, path)

    def add_multiview(self, seen: Ids) -> Ids:
        """Add probes: each subject, over all of its videos."""
        subjects = sorted({self.subjects[row] for row in seen})
        all_videos: dict[int, list[str]] = {subject: [] for subject in subjects}
        for video, people in self.videos.items():
            for subject in people:
                if subject in all_videos:
                    all_videos[subject].append(video)
        return np.array([self.add("multiview", subject, all_videos[subject]) for subject in subjects], dtype=np.int64)

    def add_uav(self, path: Path) -> Ids:
        """Add probes: each subject in each listed video, and each listed image."""
        rows = []
        for where, (file, *_) in _rows(path, 1):
            if file in self.videos:
                rows += [self.add("video", subject, [file]) for subject in self.videos[file]]
            elif file in self.images:
                rows.append(self.add("image", self.images[file], [file]))
            else:
                raise InputError(f"{where}: {METADATA} has no {file!r}")
        return _ids(rows, path)

    def add_singles(self, path: Path) -> Ids:
        return _ids([self.add("image", _number(s, where), [file]) for where, (_, s, file, *_) in _rows(path, 3)], path)

    def add_bookings(self, path: Path) -> Ids:
        files: dict[int, list[str]] = {}
        for where, (_, subject, file, *_) in _rows(path, 3):
            files.setdefault(_number(subject, where), []).append(file)
        return _ids([self.add("booking", subject, files[subject]) for subject in sorted(files)], path)

    def add_gallery_videos(self, path: Path) -> Ids:
        rows: dict[int, None] = {}
        for where, (_, subject, video, *_) in _rows(path, 3):
            if _number(subject, where) not in self.videos.get(video, ()):
                raise InputError(f"{where}: {METADATA} has no subject {subject} in {video!r}")
            rows[self.add("video", int(subject), [video])] = None
        return _ids(list(rows), path)


def _ids(rows: Sequence[int], path: Path) -> Ids:
    if not rows:
        raise InputError(f"{path} has no entries")
    return np.array(rows, dtype=np.int64)


def _stem(file: str) -> str:
    """Return the stem of the faces of ``videos/4012.mp4`` or ``img/7.png``: ``videos_4012``, ``img_7``."""
    return file.rpartition(".")[0].replace("/", "_") if "." in file else file.replace("/", "_")


def _refuse_twins(subject_G: Ids, where: str) -> None:
    subjects, counts = np.unique(subject_G, return_counts=True)
    if (counts > 1).any():
        twin = int(subjects[np.argmax(counts > 1)])
        raise InputError(f"{where}: subject {twin} has more than one gallery template: a probe has one mate")


def faces(folder: Path, packed: PackedImages | None = None) -> Iterator[str]:
    """Yield SUBJECT/FILE of each face: those of the image list, or all that exist."""
    lists = sorted(folder.glob("image_list*.csv"))
    if not lists and packed is not None:
        yield from sorted(packed.names(ALIGNED))
        return
    if not lists:
        # macOS leaves a hidden ._x.jpg beside each x.jpg
        found = (path for path in (folder / "aligned").glob("*/*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
        names = (path.relative_to(folder / "aligned").as_posix() for path in found if not path.name.startswith("."))
        yield from sorted(names)
        return
    with lists[0].open(encoding=text.encoding_of(lists[0]), newline="") as stream:
        table = csv.DictReader(stream)
        if "path" not in (table.fieldnames or ()):
            raise InputError(f"{lists[0]} should have the column path, got {table.fieldnames}")
        for line in table:
            yield "/".join(str(line["path"]).replace("\\", "/").split("/")[-2:])


def _assign(faces: Sequence[str], made: _Templates) -> tuple[tuple[str, ...], int, tuple[Ids, Ids]]:
    """Return the faces that templates use, the number of others, and the members of each template."""
    template_of: dict[str, list[int]] = {}
    for row, sources in enumerate(made.sources):
        for source in sources:
            template_of.setdefault(source, []).append(row)
    names: dict[str, None] = {}
    members: list[tuple[int, int]] = []
    for face in faces:
        subject, _, file = face.rpartition("/")
        form = _FACE.fullmatch(file.rpartition(".")[0])
        if not form or not subject:
            raise InputError(f"{face}: a face of IJB-S is called SUBJECT/videos_4012_17.jpg or SUBJECT/img_7.jpg")
        if face in names:
            raise InputError(f"{face} is listed twice")
        rows = template_of.get(f"{subject}/{form[1] or form[2]}", ())
        members += [(len(names), row) for row in rows]
        if rows:
            names[face] = None
    table = np.array(members, dtype=np.int64).reshape(-1, 2)
    return tuple(names), len(faces) - len(names), (table[:, 0], table[:, 1])
