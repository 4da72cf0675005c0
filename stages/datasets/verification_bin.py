"""Verification sets ``lfw.bin``, ``cfp_fp.bin``, ...: a pickle of (encoded images, answers).

Pair k is images 2k and 2k + 1. Made by insightface's lfw2pack.py (bytes) and build_eval_pack.py (uint8
arrays from ``cv2.imencode``).
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.core.errors import InputError
from stages.core.formats.verification_pickle import Image, PickleError, read
from stages.core.images import decoding

SIZE = 112


@dataclass(frozen=True)
class VerificationSet:
    """Encoded images in pairs, and whether each pair shows one person, shape (len(images) // 2,)."""

    images: list[Image]
    is_same: NDArray[np.bool_]


def load(path: Path | str) -> VerificationSet:
    """Read a set without executing what its pickle names.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a set, or damaged; names file and byte.
    """
    path = Path(path)
    try:
        return VerificationSet(*read(path.read_bytes()))
    except PickleError as error:
        raise PickleError(f"{path}: {error}") from None


def write(path: Path | str, images: Sequence[bytes], is_same: Iterable[bool]) -> None:
    """Write a set as insightface does: pickle protocol 2, in place.

    Raises:
        ValueError: not two images to an answer.
    """
    answers = [bool(answer) for answer in is_same]
    if not answers or len(images) != 2 * len(answers):
        raise InputError(f"wanted two images to an answer, got {len(images)} images, {len(answers)} answers")
    with Path(path).open("wb") as stream:
        pickle.dump(([bytes(image) for image in images], answers), stream, protocol=2)


def decode(image: Image) -> NDArray[np.uint8]:
    """Return an image as uint8 BGR, shape (112, 112, 3).

    As insightface's verification.py: an image that is not 112 wide is resized, bicubic, until its shorter
    side is 112 (``mx.image.resize_short``); what is then not square is refused.

    Raises:
        ValueError: not an image, or not square.
    """
    pixels = decoding.decode(image)
    if pixels is None:
        raise InputError(
            f"{len(image)} bytes are not an image, or are truncated; they begin with {bytes(image[:8])!r}"
        )
    height, width = pixels.shape[:2]
    if width != SIZE:
        short = min(height, width)
        pixels = cv2.resize(
            pixels, (width * SIZE // short, height * SIZE // short), interpolation=cv2.INTER_CUBIC
        )
    if pixels.shape[:2] != (SIZE, SIZE):
        raise InputError(
            f"wanted a square image, preferably {SIZE} x {SIZE}, got {width} x {height}: align it first"
        )
    return np.asarray(pixels, np.uint8)
