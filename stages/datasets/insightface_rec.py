"""InsightFace training sets: ``train.rec``, ``train.idx``, ``train.lst``, ``property``.

Layout of recognition/tools/face2rec2.py (insightface, parent of ce3600a7): record 0 is a header with flag 2
and the label [n + 1, n + 1 + ids]; keys 1 to n are images with the label [identity, 1]; keys n + 1 to n +
ids say for each identity which keys are its images, [begin, end). Files of im2rec.py (any ``NAME.rec``) and of
shuffle_rec.py have no header: every record is an image. Without an index the records are walked.

Legend: N images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from stages.core.errors import InputError
from stages.core.formats.whole_numbers import whole_number
from stages.core.recordio.reader import Header, RecordError, RecordReader, RecordWriter, frame, pack

_ROUNDING = 8
"""By how much float32 may miss a number of images, of which there are fewer than 2**28."""
EXACT_LABELS = 1 << 24  # float32 holds every whole number below it, and only every second one above


class Config(BaseModel, extra="forbid", frozen=True):
    """Settings for unpacking a record file."""

    export: Literal["none", "folder"] = Field(
        default="none",
        description="none: training reads the .rec; folder: the stored bytes as images/IDENTITY/KEY.jpg",
    )
    max_bad_records: int = Field(default=0, ge=0, description="more bad records than this fail the stage")


class TrainSet:
    """The images of a training set by key; loader workers may share it: it is reopened when unpickled."""

    def __init__(self, folder: Path, reader: RecordReader) -> None:
        self.folder, self.reader = folder, reader
        self.header = _read_header(reader)
        self.keys: NDArray[np.int64] = _image_keys(reader, self.header)
        self.declared_classes = _read_property(folder / "property")

    @classmethod
    def open(cls, path: Path | str) -> TrainSet:
        """Open a record file by its index ``NAME.idx``, or by walking it; images and labels are read later, on demand.

        Args:
            path: the record file, or a folder with ``train.rec``.

        Raises:
            FileNotFoundError: there is no such file.
            RecordError: index, header record and file do not fit together.
        """
        path = Path(path)
        records = path / "train.rec" if path.is_dir() else path
        if not records.is_file():
            raise FileNotFoundError(f"{records} is missing: a training set is train.rec or another record file")
        index = records.with_suffix(".idx")
        return cls(records.parent, RecordReader(records, index if index.is_file() else None))

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return TrainSet.open, (self.reader.rec_path,)

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Identity of every image, shape (N,), in the order of ``keys``: one pass over the headers of the
        records.

        Raises:
            RecordError: a label that is no whole number from 0 up, that float32 cannot hold exactly, or that
                is not below the number of classes in ``property``.
        """
        label_N = self.reader.labels(self.keys)
        limit = EXACT_LABELS if self.declared_classes is None else min(EXACT_LABELS, self.declared_classes)
        # NaN compares false, so the test is for what is right
        wrong_N = ~((label_N >= 0) & (label_N < limit) & (label_N == np.floor(label_N)))
        if wrong_N.any():
            n = int(np.argmax(wrong_N))
            raise self._bad_label(int(self.keys[n]), float(label_N[n]))
        return label_N.astype(np.int64)

    @property
    def num_classes(self) -> int:
        """Number of identities: as in ``property``; without that file the largest label plus one."""
        return self.declared_classes if self.declared_classes is not None else int(self.labels.max()) + 1

    @property
    def range_keys(self) -> NDArray[np.int64]:
        """Keys of the identity records, which list the images of each identity; none without a header."""
        rest_N = self.reader.keys[~np.isin(self.reader.keys, self.keys)]
        return np.sort(rest_N[rest_N != 0])

    def image_bytes(self, key: int) -> memoryview:
        """Return an image's stored bytes (usually JPEG); a view of the file, valid while it is held.

        Raises:
            LookupError: no such key.
            RecordError: the record is damaged or holds no image.
        """
        image = self.reader.entry(key)[1]
        if not image:
            raise RecordError("it has no image", self.reader.rec_path, key, self.reader.offset(key))
        return image

    def label_of(self, key: int) -> int:
        """Return one image's identity, checked like all ``labels``."""
        header = self.reader.entry(key)[0]
        label = float(np.atleast_1d(np.asarray(header.label))[0])
        limit = EXACT_LABELS if self.declared_classes is None else min(EXACT_LABELS, self.declared_classes)
        if not (0 <= label < limit and label == int(label)):
            raise self._bad_label(key, label)
        return int(label)

    def _bad_label(self, key: int, label: float) -> RecordError:
        wanted = f"a whole number from 0 to {EXACT_LABELS - 1}, which float32 holds exactly"
        if self.declared_classes is not None and self.declared_classes < EXACT_LABELS:
            wanted = f"a whole number below the {self.declared_classes} classes of {self.folder / 'property'}"
        offset = self.reader.offset(key)
        return RecordError(f"label {label!r}: wanted {wanted}", self.reader.rec_path, key, offset)


def write(
    folder: Path, images: Iterable[tuple[bytes, int]], num_classes: int, names: Iterable[str] | None = None
) -> int:
    """Write a training set in the layout above, in place, and return the number of images.

    Args:
        folder: where ``train.rec``, ``.idx``, ``.lst`` and ``property`` go; made if missing.
        images: encoded 112 x 112 images, each with its identity: all of identity 0 first, then all of 1, ...
        num_classes: number of identities; each has at least one image.
        names: what ``train.lst`` calls each image; None: ``IDENTITY/KEY.jpg``.

    Raises:
        ValueError: identities out of order or without an image, too many for float32, too few names.
    """
    if not 0 < num_classes <= EXACT_LABELS:
        raise InputError(f"float32 labels are exact for 1 to {EXACT_LABELS} classes, got {num_classes}")
    folder.mkdir(parents=True, exist_ok=True)
    begins: list[int] = []
    key = 0
    with (
        RecordWriter(folder / "train.rec", folder / "train.idx") as writer,
        # names as the file system has them: not all are UTF-8
        (folder / "train.lst").open("w", encoding="utf-8", errors="surrogateescape", newline="") as lines,
    ):
        # a header of the length it will have; its numbers are known at the end
        writer.write(0, _header_record(0, 0, 0))
        for key, (image, identity, name) in enumerate(_named(images, names), start=1):
            _take_identity(begins, key, identity, num_classes)
            writer.write(key, pack(Header(2, np.array([identity, 1], np.float32), key, 0), image))
            lines.write(f"1\t{name}\t{identity}\n")
        if len(begins) != num_classes:
            raise InputError(f"wanted images of {num_classes} identities, got {len(begins)}")
        for identity, (begin, end) in enumerate(pairwise([*begins, key + 1])):
            writer.write(key + 1 + identity, _header_record(begin, end, key + 1 + identity))
    with (folder / "train.rec").open("r+b") as stream:
        stream.write(frame(_header_record(key + 1, key + 1 + num_classes, 0)))
    (folder / "property").write_text(f"{num_classes},112,112\n", encoding="ascii")
    return key


def _named(
    images: Iterable[tuple[bytes, int]], names: Iterable[str] | None
) -> Iterator[tuple[bytes, int, str]]:
    if names is None:
        for key, (image, identity) in enumerate(images, start=1):
            yield image, identity, f"{identity}/{key}.jpg"
    else:
        for (image, identity), name in zip(images, names, strict=True):
            yield image, identity, name


def _take_identity(begins: list[int], key: int, identity: int, num_classes: int) -> None:
    if identity == len(begins) and identity < num_classes:
        begins.append(key)
    elif identity != len(begins) - 1:
        wanted = f"identity {len(begins) - 1} or {len(begins)}" if begins else "identity 0"
        raise InputError(
            f"image {key} has identity {identity}, wanted {wanted} of {num_classes}: ranges need all images "
            "of one identity together, in the order of the identities"
        )


def _header_record(begin: int, end: int, key: int) -> bytes:
    return pack(Header(2, np.array([begin, end], np.float32), key, 0), b"")


def _read_header(reader: RecordReader) -> tuple[float, ...] | None:
    """Return the numbers of record 0 if it is a header: a vector label without an image."""
    if 0 not in reader:
        return None
    header, image = reader.entry(0)
    if header.flag == 0 or len(image):
        return None
    numbers = tuple(np.atleast_1d(np.asarray(header.label)).tolist())
    if len(numbers) < 2 or not 1 <= numbers[0] <= numbers[1] < np.inf:
        raise _bad_header(reader, f"images end before key {numbers[0]}, all records before key {numbers[1:]}")
    return numbers


def _image_keys(reader: RecordReader, header: tuple[float, ...] | None) -> NDArray[np.int64]:
    if header is None:
        return reader.keys
    if header[0] > len(reader) + _ROUNDING:  # before there is an array of so many
        raise _bad_header(reader, f"images end before key {header[0]:.0f}, but there are {len(reader)} records")
    keys_N = np.arange(1, _image_end(reader, header[0]), dtype=np.int64)
    missing_N = ~np.isin(keys_N, reader.keys)
    if missing_N.any() or not len(keys_N):
        first = int(keys_N[np.argmax(missing_N)]) if len(keys_N) else 1
        raise _bad_header(
            reader, f"keys 1 to {header[0] - 1:.0f} are images, but the index has no key {first}"
        )
    return keys_N


def _image_end(reader: RecordReader, said: float) -> int:
    """Return the key after the last image.

    float32 rounds whole numbers from 2**24 on, and Glint360K and WebFace42M have more images than that: then
    it is the key near the one said where records stop holding images.
    """
    if said < EXACT_LABELS:
        if _holds_image(reader, int(said)):
            raise _bad_header(reader, f"images end before key {said:.0f}, but record {said:.0f} holds one")
        return int(said)
    for end in range(int(said) - _ROUNDING, int(said) + _ROUNDING + 1):
        if np.float32(end) == said and _holds_image(reader, end - 1) and not _holds_image(reader, end):
            return end
    raise _bad_header(
        reader, f"images end before key {said:.0f}, but near it no key is the first without one"
    )


def _holds_image(reader: RecordReader, key: int) -> bool:
    return key in reader and len(reader.entry(key)[1]) > 0


def _bad_header(reader: RecordReader, problem: str) -> RecordError:
    return RecordError(f"its header says that {problem}", reader.rec_path, 0, reader.offset(0))


def _read_property(path: Path) -> int | None:
    """Return the number of classes in ``property``: num_classes,height,width; None without the file."""
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8", errors="replace").strip()
    first = text.split(",")[0].strip()
    num_classes = whole_number(first)
    if not num_classes:
        raise InputError(f"{path}: wanted num_classes,height,width, got {text[:60]!r}")
    return num_classes
