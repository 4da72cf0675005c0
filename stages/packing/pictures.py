"""Encoded images for records: the bytes of a file as they are, or a face that is found and aligned on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from stages.core.images.alignment import SIZE
from stages.core.metrics.processing import decode
from stages.pictures.detect import Detect, read_picture

NO_FACE = "no face found"


@dataclass(frozen=True)
class Packed:
    """What a record of a picture holds; without ``data`` there is a problem."""

    data: bytes | None
    problem: str = ""
    face: dict[str, float] | None = None


Take = Callable[[Path], Packed]


def as_it_is(path: Path) -> Packed:
    """Return the bytes of a file."""
    try:
        return Packed(path.read_bytes())
    except FileNotFoundError as error:
        return Packed(None, error.strerror or str(error))


@dataclass(frozen=True)
class Aligned:
    """Takes the bytes of an aligned image as they are, and the largest face of any other picture, as `facet score`."""

    detector: Callable[[], Detect]
    """Is called for the first picture that is not aligned."""
    jpeg_quality: int | None = None
    """Of the faces that are aligned here; None: PNG, without loss."""

    def __call__(self, path: Path) -> Packed:
        """Return the record of one picture, or the reason why it has none."""
        try:
            picture_HW3 = read_picture(path)
        except (ValueError, OSError) as error:
            return Packed(None, str(error))
        if picture_HW3.shape == (SIZE, SIZE, 3):
            data = path.read_bytes()
            # a transparent picture is read on white here, and elsewhere not at all
            return Packed(data if np.array_equal(decode(data), picture_HW3) else self._encoded(picture_HW3))
        found = self.detector()(picture_HW3)
        if not found:
            return Packed(None, NO_FACE)
        box = dict(zip(("left", "top", "width", "height"), found[0].box, strict=True))
        return Packed(self._encoded(found[0].aligned_HW3), face={**box, "detector_score": found[0].score})

    def _encoded(self, image_HW3: np.ndarray) -> bytes:
        if self.jpeg_quality is None:
            return cv2.imencode(".png", image_HW3)[1].tobytes()
        return cv2.imencode(".jpg", image_HW3, [cv2.IMWRITE_JPEG_QUALITY, self.jpeg_quality])[1].tobytes()
