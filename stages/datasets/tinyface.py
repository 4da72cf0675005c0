"""Reads TinyFace's identification test: probes, their mates and distractors, from aligned faces.

    tinyface/tinyface/Testing_Set/probe_img_ID_pairs.mat            probe_set (names), probe_ids
    tinyface/tinyface/Testing_Set/gallery_match_img_ID_pairs.mat    gallery_set, gallery_ids
    tinyface/tinyface/Testing_Set/Gallery_Distractor/NAME           their names are the distractors
    tinyface/aligned_pad_0.1_pad_high/{Probe,Gallery_Match,Gallery_Distractor}/NAME.jpg

or packed, lists and all (stages/io/packed_images.py).

As AdaFace validation_lq/tinyface_helper.py at c60eaa78, which takes subjects from file names
(``SUBJECT_k.jpg``); the lists must agree with them here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import InputError
from stages.core.formats.mat_cells import read_lists
from stages.core.formats.whole_numbers import whole_number
from stages.core.metrics.features import Image
from stages.core.metrics.processing import Failure, decode_aligned
from stages.io import packed_images
from stages.io.packed_images import PackedImages

ALIGNED = "aligned_pad_0.1_pad_high"
DISTRACTORS = "Gallery_Distractor"
LISTS = "tinyface/Testing_Set"
NOBODY = -100  # subject of a distractor

_EXTENSIONS = {".jpg", ".jpeg", ".png"}

@dataclass(frozen=True)
class TinyFaceSet:
    """Files, relative to the aligned folder without extension, and subjects: probes, then the gallery."""

    aligned: Path
    names: tuple[str, ...]
    subject_N: NDArray[np.int64]
    num_probes: int
    packed: PackedImages | None = None

    def images(self) -> Iterator[Image | Failure]:
        """Yield each image, (112, 112, 3) uint8 BGR, or the reason of its failure."""
        return map(self.image, range(len(self.names)))

    def image(self, row: int) -> Image | Failure:
        """Return one image, as ``images`` does."""
        name = f"{self.names[row]}.jpg"
        try:
            return decode_aligned(packed_images.read(self.packed, self.aligned.parent, f"{ALIGNED}/{name}"))
        except (OSError, ValueError) as error:
            return Failure.of(name, error)


def load(folder: Path) -> TinyFaceSet:
    """Read and check the lists.

    Raises:
        FileNotFoundError: a list or folder is missing.
        ValueError: a list cannot be read, names an image twice, or tells another subject than the image's
            name.
    """
    testing, aligned = folder / LISTS, folder / ALIGNED
    packed = packed_images.find(folder)
    for path in (aligned, testing / DISTRACTORS):
        if packed is None and not path.is_dir():
            raise FileNotFoundError(f"{path} is missing: it is part of the TinyFace layout AdaFace evaluates on")
    probes = _read_list(testing / "probe_img_ID_pairs.mat", "probe", "Probe")
    mates = _read_list(testing / "gallery_match_img_ID_pairs.mat", "gallery", "Gallery_Match")
    others = {f"{DISTRACTORS}/{stem}": NOBODY for stem in _distractors(testing / DISTRACTORS, packed)}
    listed = [*probes.items(), *mates.items(), *others.items()]
    return TinyFaceSet(
        aligned, tuple(name for name, _ in listed), np.array([subject for _, subject in listed]), len(probes), packed
    )


def _distractors(folder: Path, packed: PackedImages | None) -> list[str]:
    """Return the stems of the distractors, in the order of their names."""
    if packed is not None:
        return [Path(name).stem for name in packed.names(f"{ALIGNED}/{DISTRACTORS}")]
    # macOS leaves a hidden ._x.jpg beside each x.jpg
    found = (path for path in sorted(folder.iterdir()) if not path.name.startswith("."))
    return [path.stem for path in found if path.suffix.lower() in _EXTENSIONS]


def _read_list(path: Path, key: str, folder: str) -> dict[str, int]:
    """Return subject by FOLDER/STEM, in the order of the list."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: it is one of TinyFace's own lists")
    try:
        lists = read_lists(path.read_bytes(), frozenset({f"{key}_set", f"{key}_ids"}))
    except ValueError as error:
        raise InputError(f"{path} should hold {key}_set (file names) and {key}_ids (subjects): {error}") from error
    files, ids = lists[f"{key}_set"], lists[f"{key}_ids"]
    if any(isinstance(file, float) for file in files) or any(isinstance(value, str) for value in ids):
        raise InputError(f"{path}: {key}_set should be names and {key}_ids numbers, but they are swapped")
    if len(files) != len(ids) or not files:
        raise InputError(f"{path}: {key}_set has {len(files)} names, {key}_ids {len(ids)} subjects")
    subjects: dict[str, int] = {}
    for row, (file, subject) in enumerate(zip(map(str, files), ids, strict=True), start=1):
        name = f"{folder}/{Path(file).stem}"
        prefix = whole_number(Path(file).stem.split("_")[0])
        if prefix is None or prefix != subject:
            raise InputError(f"{path}, row {row}: {file} should begin with its subject, which is {subject:g} there")
        if name in subjects:
            raise InputError(f"{path}, row {row}: {file} is listed twice")
        subjects[name] = prefix
    return subjects
