"""Aligns a face by five landmarks: least-squares similarity onto the ArcFace template (Umeyama, PAMI 1991).

Template and warp are those of AdaFace validation_mixed/insightface_ijb_helper/dataloader.py at c60eaa78, with the
sampling of the OpenCV 4 it was published with: positions are rounded to 1/32 pixel. OpenCV 5's ``warpAffine``
does not round, which moves every tenth value by a level or more, and with it the few pairs that decide a TAR at
a low FAR (docs/decisions/0010).

Shapes: 5 landmarks (left eye, right eye, nose, left and right mouth corner, as seen in the image), 2 pixel
coordinates; H, W rows and columns.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.core.errors import InputError

SIZE = 112
# float32 values, as upstream stores them
TEMPLATE_52 = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]],
    dtype=np.float32,
).astype(np.float64)

Points = NDArray[np.floating[Any]]

# OpenCV 4 steps over a row in 1/1024 pixel and samples at 1/32
_STEP_BITS = 10
_SAMPLE_BITS = 5


def similarity(source_52: Points, target_52: Points = TEMPLATE_52) -> NDArray[np.float64]:
    """Return the (2, 3) matrix of the least-squares rotation, scale and shift from ``source`` to ``target``.

    In the plane a similarity is one complex factor and one complex shift, so least squares has a closed form;
    it never mirrors.

    Raises:
        ValueError: the landmarks are not finite or lie all in one point.

    >>> similarity(TEMPLATE_52 * 2).round(6).tolist()
    [[0.5, -0.0, 0.0], [0.0, 0.5, 0.0]]
    """
    source_5, target_5 = _complex(source_52), _complex(target_52)
    centred_5 = source_5 - source_5.mean()
    spread = float(np.sum(np.abs(centred_5) ** 2))
    if not np.isfinite(spread) or spread == 0:
        raise InputError(f"alignment needs five distinct landmarks, got {source_52.tolist()}")
    factor = np.sum(np.conj(centred_5) * (target_5 - target_5.mean())) / spread
    shift = target_5.mean() - factor * source_5.mean()
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])


def align(image_HW3: NDArray[np.uint8], landmarks_52: Points) -> NDArray[np.uint8]:
    """Return the face as (112, 112, 3) uint8 in the same channel order; pixels outside the image are black.

    Raises:
        ValueError: the landmarks are not finite or lie all in one point, or give a scale beyond all reason.
    """
    matrix = cv2.invertAffineTransform(similarity(landmarks_52))
    scale = 1 << _STEP_BITS
    along_2W = np.rint(matrix[:, :1] * np.arange(SIZE) * scale)
    down_2H = np.rint((matrix[:, 1:2] * np.arange(SIZE) + matrix[:, 2:]) * scale)
    if np.abs(along_2W).max() + np.abs(down_2H).max() > scale * np.iinfo(np.int16).max:
        raise InputError(f"these landmarks would enlarge the face too much: {landmarks_52.tolist()}")
    rounding = scale >> (_SAMPLE_BITS + 1)
    position_2HW = along_2W.astype(np.int32)[:, None, :] + (down_2H + rounding).astype(np.int32)[:, :, None]
    position_2HW >>= _STEP_BITS - _SAMPLE_BITS
    whole_HW2 = np.empty((SIZE, SIZE, 2), dtype=np.int16)
    np.right_shift(position_2HW, _SAMPLE_BITS, out=np.moveaxis(whole_HW2, -1, 0), casting="unsafe")
    part_2HW = position_2HW & ((1 << _SAMPLE_BITS) - 1)
    part_HW = ((part_2HW[1] << _SAMPLE_BITS) + part_2HW[0]).astype(np.uint16)
    warped: NDArray[np.uint8] = cv2.remap(
        image_HW3, whole_HW2, part_HW, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0.0
    )
    return warped


def _complex(points_52: Points) -> NDArray[np.complex128]:
    points = points_52.astype(np.float64)
    return points[:, 0] + 1j * points[:, 1]
