"""Converts pixels to a network's input: the only place that applies colour order and value range.

Shapes: B batch, H = W = 112.
"""

from __future__ import annotations

from typing import Final, Literal

import torch
from torch import Tensor

SIDE: Final = 112
"""Side of an aligned face, in pixels."""
ColorOrder = Literal["BGR", "RGB"]
ValueRange = tuple[float, float]
VALUE_RANGE: Final[ValueRange] = (-1.0, 1.0)


def to_network(image_B3HW: Tensor, color_order: ColorOrder, value_range: ValueRange = VALUE_RANGE) -> Tensor:
    """Return float32 images in the order and range the network was trained with.

    Args:
        image_B3HW: uint8, blue first, as OpenCV reads them; strides are kept.
        color_order: BGR as AdaFace's weights want it, RGB as insightface's.
        value_range: what 0 and 255 become; (-1, 1) is (x / 255 - 0.5) / 0.5, as most networks want it, MagFace (0, 1).

    >>> red = torch.tensor([0, 0, 255], dtype=torch.uint8)[None, :, None, None]
    >>> to_network(red, "RGB").flatten().tolist()
    [1.0, -1.0, -1.0]
    >>> to_network(red, "BGR", (0.0, 1.0)).flatten().tolist()
    [0.0, 0.0, 1.0]
    """
    image_B3HW = image_B3HW.flip(1) if color_order == "RGB" else image_B3HW
    # in place: fresh memory for each step would cost several times the arithmetic
    image_B3HW = image_B3HW.to(torch.float32).div_(255)
    if value_range == VALUE_RANGE:
        return image_B3HW.sub_(0.5).div_(0.5)  # the very operations, and so the last bits, of published code
    low, high = value_range
    return image_B3HW if value_range == (0.0, 1.0) else image_B3HW.mul_(high - low).add_(low)


def from_rows(image_BHW3: Tensor) -> Tensor:
    """Return the same bytes as (B, 3, H, W); a view, which is channels-last in memory."""
    return image_BHW3.permute(0, 3, 1, 2)
