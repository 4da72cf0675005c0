"""Degrades a clean face to a known quality: resolution, blur, noise and JPEG, like a distant camera.

Quality q is in [0, 1], 1 best. The face is sampled at ``side_of(q)`` px of the 112 px crop, on a log scale:
equal steps of q are equal factors of resolution, 112, 60, 32, 17, 9 px at 1, .75, .5, .25, 0. Blur, noise and
compression grow with 1 - q and have a random strength: the level is known, the exact damage is not.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.core.images.alignment import SIZE
from stages.core.metrics.processing import decode

Image = NDArray[np.uint8]

LOWEST_SIDE = 9.0
_NOISE_STEPS = 32.0


def side_of(quality: float) -> float:
    """Return the px to which the 112 px crop of a face of this quality is reduced.

    >>> [round(side_of(q)) for q in (1, 0.75, 0.5, 0.25, 0)]
    [112, 60, 32, 17, 9]
    """
    return float(SIZE * (LOWEST_SIDE / SIZE) ** (1 - quality))


def quality_of(side: float) -> float:
    """Return the quality of a face sampled at ``side`` px, clipped to [0, 1]: the inverse of ``side_of``.

    >>> round(quality_of(side_of(0.3)), 6)
    0.3
    """
    return float(np.clip(1 - np.log(SIZE / side) / np.log(SIZE / LOWEST_SIDE), 0, 1))


def sample(image_HW3: Image, quality: float, rng: np.random.Generator) -> Image:
    """Return what a camera of this quality records: a smaller image, blurred, noisy and compressed.

    The side of the result is the image's times ``side_of(quality) / 112``.
    """
    loss = 1 - quality
    blur, grain, pack = rng.uniform(0, 1), rng.uniform(0.25, 1), rng.uniform(0.3, 1)
    ratio = side_of(quality) / SIZE
    height, width = (max(round(n * ratio), 8) for n in image_HW3.shape[:2])
    small = cv2.resize(image_HW3, (width, height), interpolation=cv2.INTER_AREA)
    if loss * blur > 0.15:
        small = cv2.GaussianBlur(small, (0, 0), 0.25 + 0.75 * loss * blur)
    small = _add_noise(small, 1.0 + 11.0 * loss * grain, rng)
    return decode(encode(small, round(95 - 55 * loss * pack)))


def degrade(image_HW3: Image, quality: float, rng: np.random.Generator) -> Image:
    """Return the image as ``sample`` records it, enlarged to its size by a randomly drawn interpolation."""
    small = sample(image_HW3, quality, rng)
    return enlarge(small, image_HW3.shape[0], image_HW3.shape[1], rng)


def enlarge(small: Image, height: int, width: int, rng: np.random.Generator) -> Image:
    """Return ``small`` at the given size, by linear or cubic interpolation."""
    way = (cv2.INTER_LINEAR, cv2.INTER_CUBIC)[int(rng.integers(2))]
    if small.shape[:2] == (height, width):
        return small
    large: Image = cv2.resize(small, (width, height), interpolation=way)
    return large


def encode(image_HW3: Image, quality: int) -> bytes:
    """Return the JPEG bytes of a BGR image; ``quality`` is JPEG's own, 1 to 100."""
    done, packed = cv2.imencode(".jpg", image_HW3, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return packed.tobytes()


def _add_noise(image_HW3: Image, deviation: float, rng: np.random.Generator) -> Image:
    """Add sensor noise: a window of one large field, because fresh noise would cost more than the face."""
    height, width = image_HW3.shape[:2]
    field = _noise_field()
    row, column = rng.integers(field.shape[0] - height), rng.integers(field.shape[1] - width)
    window = np.ascontiguousarray(field[row : row + height, column : column + width])
    strength = deviation / _NOISE_STEPS
    noisy: Image = cv2.addWeighted(image_HW3, 1.0, window, strength, -128 * strength)
    return noisy


@lru_cache(maxsize=1)
def _noise_field() -> Image:
    """Return bytes of mean 128 and deviation _NOISE_STEPS: adding bytes is much faster than adding floats."""
    noise = np.random.default_rng(41).standard_normal((640, 640, 3), dtype=np.float32)
    field: Image = np.clip(np.rint(128 + _NOISE_STEPS * noise), 0, 255).astype(np.uint8)
    return field
