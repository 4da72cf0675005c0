"""Reads SCface as QGFace uses it: a frontal gallery, five cameras at three distances, no cameras 6 to 8.

    scface/all.txt              NAME and ten landmark coordinates or none, tab separated
    scface/aligned/NAME.jpg     001_frontal, 001_cam1_1 (farthest), 001_cam1_2, 001_cam1_3 (nearest);
                                or packed (stages/io/packed_images.py)

As QGFace validation/validation_lq/scface_helper.py at 778aa5ef: cameras 6 and 7 see infrared and 8 is a
mugshot; the label is the number a name begins with.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import InputError
from stages.core.formats.whole_numbers import whole_number
from stages.core.metrics.features import Image
from stages.core.metrics.processing import Failure, decode_aligned
from stages.io import packed_images, text
from stages.io.packed_images import PackedImages

DISTANCES = (1, 2, 3)
ALIGNED = "aligned"

_PROBE = re.compile(r"(\d+)_cam([1-5])_([123])")
_GALLERY = re.compile(r"(\d+)_frontal")
_LEFT_OUT = re.compile(r"\d+_cam[678](_\d+)?")


@dataclass(frozen=True)
class ScfaceSet:
    """Names and subjects of the images used; ``distance_N`` is 0 for the gallery, 1 (far) to 3 (near)."""

    folder: Path
    names: tuple[str, ...]
    subject_N: NDArray[np.int64]
    distance_N: NDArray[np.int64]
    num_left_out: int
    packed: PackedImages | None = None

    def images(self) -> Iterator[Image | Failure]:
        """Yield each image, (112, 112, 3) uint8 BGR, or the reason of its failure."""
        return map(self.image, range(len(self.names)))

    def image(self, row: int) -> Image | Failure:
        """Return one image, as ``images`` does."""
        name = f"{self.names[row]}.jpg"
        try:
            return decode_aligned(packed_images.read(self.packed, self.folder, f"{ALIGNED}/{name}"))
        except (OSError, ValueError) as error:
            return Failure.of(name, error)


def load(folder: Path) -> ScfaceSet:
    """Read and check the list.

    Raises:
        FileNotFoundError: ``all.txt`` or ``aligned`` is missing.
        ValueError: a line's name is not of the forms above, or stands there twice; file and line are named.
            Or no gallery, or a distance without probes.
    """
    path = folder / "all.txt"
    packed = packed_images.find(folder)
    if not path.is_file() or (packed is None and not (folder / ALIGNED).is_dir()):
        raise FileNotFoundError(f"{folder} should hold all.txt and the folder aligned with the faces it lists")
    lines: dict[str, int] = {}
    names: list[str] = []
    rows: list[tuple[int, int]] = []
    num_left_out = 0
    for number, line in _lines(path):
        if not line.strip():
            continue
        name = line.split("\t")[0].strip().removesuffix(".jpg")
        if name in lines:
            raise InputError(f"{path}, line {number}: {name} is also in line {lines[name]}")
        lines[name] = number
        if _LEFT_OUT.fullmatch(name):
            num_left_out += 1
            continue
        names.append(name)
        rows.append(_subject_and_distance(name, f"{path}, line {number}"))
    table = np.array(rows, dtype=np.int64).reshape(-1, 2)
    for distance in (0, *DISTANCES):
        if not np.any(table[:, 1] == distance):
            wanted = f"probes at distance {distance} (NNN_camC_{distance})" if distance else "gallery (NNN_frontal)"
            raise InputError(f"{path} lists no {wanted}")
    return ScfaceSet(folder, tuple(names), table[:, 0], table[:, 1], num_left_out, packed)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number, from 1, and the text of each line."""
    yield from enumerate(text.read_lines(path), start=1)


def _subject_and_distance(name: str, where: str) -> tuple[int, int]:
    gallery, probe = _GALLERY.fullmatch(name), _PROBE.fullmatch(name)
    form = gallery or probe
    subject = whole_number(form[1]) if form else None
    if subject is not None:
        return subject, int(probe[3]) if probe else 0
    raise InputError(
        f"{where}: wanted a name like 001_frontal or 001_cam1_1 (cameras 1-8, distances 1-3), got {name!r}"
    )
