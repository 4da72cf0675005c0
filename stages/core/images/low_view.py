"""QGFace's low-quality view L (IsidoreSong/QGFace dataset/record_dataset.py at 778aa5ef, ContrastDataset.L_transform).

Down to 11 to 55 pixels, through JPEG, and up again, always; then crop and scale, photometric, rotation, each drawn
independently; then a flip. Images are uint8 (H, W, 3), H = W. Pillow scales and turns as in the original
(its filters widen with the scale, OpenCV's do not): given the same drawn numbers, pixels are the same. As published,
Pillow is told that red comes first, though blue does.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import simplejpeg
from PIL import Image as Pil

from stages.core.images.augment import Image, draw_crop, draw_jitter, jitter, mirror

SIDE_RANGE = (0.1, 0.5)
"""Share of the side that is kept."""
JPEG_QUALITY = 75
CROP_AREA, CROP_ASPECT = (0.8, 1.0), (0.75, 1.33)
FACTOR = (0.8, 1.2)
ANGLE = (-45.0, 45.0)
"""Range of the rotation in degrees, counter-clockwise."""
FILTERS = (
    Pil.Resampling.BICUBIC,
    Pil.Resampling.BILINEAR,
    Pil.Resampling.NEAREST,
    Pil.Resampling.BOX,
    Pil.Resampling.LANCZOS,
)


@dataclass(frozen=True)
class Probabilities:
    """Probability of each operation after the loss of resolution; 0.2 is at second hand (reference, section 1.7)."""

    crop: float = 0.2
    photometric: float = 0.2
    rotation: float = 0.2
    flip: float = 0.5


def degrade(image_HW3: Image, probabilities: Probabilities, rng: np.random.Generator) -> Image:
    """Return the image after the loss of resolution and the drawn operations; always a new array."""
    crop, photometric, rotation, flip = rng.random(4)
    side = rng.uniform(*SIDE_RANGE)
    down, up = (FILTERS[i] for i in rng.integers(len(FILTERS), size=2))
    image_HW3 = rescale(image_HW3, side, down, up)
    if crop < probabilities.crop:
        height, width = image_HW3.shape[:2]
        image_HW3 = crop_and_scale(image_HW3, *draw_crop(height, width, rng, CROP_AREA, CROP_ASPECT))
    if photometric < probabilities.photometric:
        image_HW3 = jitter(image_HW3, *draw_jitter(rng, FACTOR))
    if rotation < probabilities.rotation:
        image_HW3 = rotate(image_HW3, rng.uniform(*ANGLE))
    return mirror(image_HW3) if flip < probabilities.flip else image_HW3


def rescale(image_HW3: Image, side: float, down: Pil.Resampling, up: Pil.Resampling) -> Image:
    """Return the image at ``side`` of its height, JPEG-compressed there, and back, by two of Pillow's filters."""
    height, width = image_HW3.shape[:2]
    small = max(1, int(side * height))
    small_HW3 = compress(np.asarray(Pil.fromarray(image_HW3).resize((small, small), down)))
    return np.asarray(Pil.fromarray(small_HW3).resize((width, height), up))


def compress(image_HW3: Image) -> Image:
    """Return the image after JPEG compression, with its first channel taken for red.

    OpenCV and simplejpeg give the pixels that Pillow does (all are libjpeg-turbo) in half the time.
    """
    encoded = cv2.imencode(".jpg", image_HW3[:, :, ::-1], (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))[1]
    compressed_HW3: Image = simplejpeg.decode_jpeg(encoded, "RGB")
    return compressed_HW3


def crop_and_scale(image_HW3: Image, top: int, left: int, height: int, width: int) -> Image:
    """Return the crop at the size of the image, bilinear."""
    crop = Pil.fromarray(image_HW3[top : top + height, left : left + width])
    return np.asarray(crop.resize((image_HW3.shape[1], image_HW3.shape[0]), Pil.Resampling.BILINEAR))


def rotate(image_HW3: Image, angle: float) -> Image:
    """Return the image rotated about its centre, nearest pixels, black outside."""
    return np.asarray(Pil.fromarray(image_HW3).rotate(angle))
