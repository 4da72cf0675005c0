"""Shrinks and enlarges an aligned face, as QGFace validation/validation_lq/crlfw_helper.py at 778aa5ef.

torchvision's ``Resize`` of a PIL image is PIL's bilinear filter, which averages over the area when it shrinks.
"""

from __future__ import annotations

import numpy as np
from PIL import Image as Pil

from stages.core.metrics.features import Image


def through(image: Image, side: int) -> Image:
    """Return ``image``, uint8 (H, W, 3), shrunk to ``side`` x ``side`` pixels and enlarged to its size again.

    >>> through(np.full((112, 112, 3), 9, np.uint8), 8).shape
    (112, 112, 3)
    """
    height, width = image.shape[:2]
    small = Pil.fromarray(image).resize((side, side), Pil.Resampling.BILINEAR)
    return np.asarray(small.resize((width, height), Pil.Resampling.BILINEAR), dtype=np.uint8)
