"""AdaFace's augmentation (mk-minchul/AdaFace dataset/augmenter.py at c60eaa78), with a given random generator.

Crop pasted in place, low resolution, photometric, each drawn independently, then a flip; with no probability but the
flip's it is MagFace's and CR-FIQA's (RandomHorizontalFlip alone). Functions that act take drawn numbers, those that
draw take the generator, so both can be tested. Images are uint8 (H, W, 3).

Given the same drawn numbers, pixels equal the published ones (OpenCV's resize; PIL's ImageEnhance under torchvision)
bit for bit. As published, grey is computed as if red came first, though blue does: AdaFace hands BGR to PIL.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

CROP_AREA = (0.2, 1.0)
"""Share of the image's area that a crop keeps."""
CROP_ASPECT = (0.75, 4 / 3)
LOW_RES_SIDE = (0.2, 1.0)
"""Share of the side that low resolution keeps."""
FACTOR = (0.5, 1.5)
"""Range of the factors of brightness, contrast and saturation; 1 changes nothing."""
INTERPOLATIONS = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_AREA, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)
# PIL's grey, (19595 R + 38470 G + 7471 B + 32768) >> 16. Every term is a multiple of 2**-16 below 256: float32 is exact
_GREY = np.array([[19595, 38470, 7471, 32768]], np.float32) / 65536
_GREY_3 = np.repeat(_GREY, 3, axis=0)
_LEVELS = np.arange(256, dtype=np.float32)


@dataclass(frozen=True)
class Probabilities:
    """Probability of each operation, and of the flip, in [0, 1]."""

    crop: float
    low_res: float
    photometric: float
    flip: float = 0.5


def augment(image_HW3: Image, probabilities: Probabilities, rng: np.random.Generator) -> Image:
    """Return the augmented image; a new array, or the image itself if no operation was drawn."""
    crop, low_res, photometric, flip = rng.random(4)
    if crop < probabilities.crop:
        image_HW3 = paste_crop(image_HW3, *draw_crop(image_HW3.shape[0], image_HW3.shape[1], rng))
    if low_res < probabilities.low_res:
        down, up = (INTERPOLATIONS[i] for i in rng.integers(len(INTERPOLATIONS), size=2))
        image_HW3 = reduce_resolution(image_HW3, rng.uniform(*LOW_RES_SIDE), down, up)
    if photometric < probabilities.photometric:
        image_HW3 = jitter(image_HW3, *draw_jitter(rng))
    return mirror(image_HW3) if flip < probabilities.flip else image_HW3


def draw_crop(
    height: int,
    width: int,
    rng: np.random.Generator,
    area_range: tuple[float, float] = CROP_AREA,
    aspect_range: tuple[float, float] = CROP_ASPECT,
) -> tuple[int, int, int, int]:
    """Return (top, left, height, width) as torchvision's RandomResizedCrop draws them."""
    for _ in range(10):
        area = height * width * rng.uniform(*area_range)
        aspect = math.exp(rng.uniform(math.log(aspect_range[0]), math.log(aspect_range[1])))
        crop_width, crop_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            top = int(rng.integers(height - crop_height + 1))
            return top, int(rng.integers(width - crop_width + 1)), crop_height, crop_width
    # ten refusals: the largest crop in the middle that keeps the aspect within its range
    crop_width = min(width, round(height * aspect_range[1]))
    crop_height = min(height, round(width / aspect_range[0]))
    return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width


def draw_jitter(
    rng: np.random.Generator, factor_range: tuple[float, float] = FACTOR
) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Return factors of brightness, contrast and saturation, and their order, drawn like ColorJitter."""
    factors = rng.uniform(*factor_range, size=3)
    return tuple(factors.tolist()), tuple(rng.permutation(3).tolist())


def mirror(image_HW3: Image) -> Image:
    """Return the image with left and right exchanged."""
    # NumPy takes 25 times as long to copy a view that runs backwards
    mirrored_HW3: Image = cv2.flip(image_HW3, 1)
    return mirrored_HW3


def paste_crop(image_HW3: Image, top: int, left: int, height: int, width: int) -> Image:
    """Return the crop at its place, on black."""
    pasted_HW3 = np.zeros_like(image_HW3)
    rows, columns = slice(top, top + height), slice(left, left + width)
    pasted_HW3[rows, columns] = image_HW3[rows, columns]
    return pasted_HW3


def reduce_resolution(image_HW3: Image, side: float, down: int, up: int) -> Image:
    """Return the image scaled to ``side`` of its height (a square) and back, by two OpenCV interpolations."""
    height, width = image_HW3.shape[:2]
    small = max(1, int(side * height))
    reduced_HW3: Image = cv2.resize(
        cv2.resize(image_HW3, (small, small), interpolation=down), (width, height), interpolation=up
    )
    return reduced_HW3


def jitter(image_HW3: Image, factors: Sequence[float], order: Sequence[int]) -> Image:
    """Return the image after brightness (0), contrast (1) and saturation (2) by their factors, in ``order``."""
    for which in order:
        image_HW3 = (brighten, change_contrast, saturate)[which](image_HW3, factors[which])
    return image_HW3


def brighten(image_HW3: Image, factor: float) -> Image:
    """Return the image times ``factor``, clipped at 255 and truncated as PIL does."""
    return _look_up(image_HW3, np.float32(factor) * _LEVELS)


def change_contrast(image_HW3: Image, factor: float) -> Image:
    """Return the image blended with its mean grey: 0 is uniform grey, 1 the image, above 1 more contrast."""
    grey_HW = cv2.transform(image_HW3.astype(np.float32), _GREY).astype(np.uint8)
    mean = np.float32(int(cv2.sumElems(grey_HW)[0] / grey_HW.size + 0.5))
    return _look_up(image_HW3, mean + np.float32(factor) * (_LEVELS - mean))


def saturate(image_HW3: Image, factor: float) -> Image:
    """Return the image blended with its own grey: 0 is grey, 1 the image, above 1 more saturated."""
    level_HW3 = image_HW3.astype(np.float32)
    grey_HW3 = cv2.transform(level_HW3, _GREY_3)
    np.floor(grey_HW3, out=grey_HW3)
    # in place: fresh memory would cost more than the arithmetic; one rounding after each step, as in PIL
    np.subtract(level_HW3, grey_HW3, out=level_HW3)
    np.multiply(level_HW3, np.float32(factor), out=level_HW3)
    np.add(level_HW3, grey_HW3, out=level_HW3)
    np.clip(level_HW3, 0, 255, out=level_HW3)
    return level_HW3.astype(np.uint8)


def _look_up(image_HW3: Image, level_256: NDArray[np.float32]) -> Image:
    looked_up: Image = cv2.LUT(image_HW3, level_256.clip(0, 255).astype(np.uint8))
    return looked_up
