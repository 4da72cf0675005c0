"""From pixels to what a network sees: colour order and value range are declared once, here.

Shapes: B batch, H = W = 112.
"""

from __future__ import annotations

from typing import Final, Literal

import torch
from torch import Tensor

SIDE: Final = 112
"""Of an aligned face, in pixels."""
ColorOrder = Literal["BGR", "RGB"]
VALUE_RANGE = (-1.0, 1.0)


def to_network(image_B3HW: Tensor, color_order: ColorOrder) -> Tensor:
    """Return float32 images in [-1, 1], (x / 255 - 0.5) / 0.5, in the order the network was trained with.

    Args:
        image_B3HW: uint8, blue first, as OpenCV reads them; strides are kept.
        color_order: BGR as AdaFace's weights want it, RGB as insightface's.

    >>> red = torch.tensor([0, 0, 255], dtype=torch.uint8)[None, :, None, None]
    >>> to_network(red, "RGB").flatten().tolist()
    [1.0, -1.0, -1.0]
    """
    image_B3HW = image_B3HW.flip(1) if color_order == "RGB" else image_B3HW
    # in place: fresh memory for each step would cost several times the arithmetic
    return image_B3HW.to(torch.float32).div_(255).sub_(0.5).div_(0.5)


def from_rows(image_BHW3: Tensor) -> Tensor:
    """Return the same bytes as (B, 3, H, W); a view, which is channels-last in memory."""
    return image_BHW3.permute(0, 3, 1, 2)
