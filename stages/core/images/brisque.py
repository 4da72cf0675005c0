"""BRISQUE (Mittal et al., IEEE TIP 2012): how unnatural an image's local contrasts are, 0 (natural) to about 100.

Written from the paper, with the released program's choices: a 7 x 7 Gaussian window of deviation 7/6 on zero padding,
two scales, half by bicubic interpolation. The regression's numbers (support vectors, ranges) are data: ``Regression``.

Shapes: F = 36 features, S support vectors, H = W side of an image.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import gamma

Floats = NDArray[np.float64]

WINDOW, DEVIATION = 7, 7 / 6
STABILITY = 1 / 255
"""Avoids a division by 0 in flat areas; for intensities in [0, 1]."""
LUMA_3 = np.array([0.0721, 0.7154, 0.2125])
"""Luma weights of blue, green and red (ITU-R BT.709)."""
# shapes of a generalised Gaussian, and E[|x|]^2 / E[x^2] of each, which rises with the shape
_SHAPE_K = np.linspace(0.1, 20.0, 20_001)
_RATIO_K = gamma(2 / _SHAPE_K) ** 2 / (gamma(1 / _SHAPE_K) * gamma(3 / _SHAPE_K))


@dataclass(frozen=True)
class Regression:
    """Support-vector regression with a Gaussian kernel, over features scaled to [-1, 1]."""

    vector_SF: Floats
    weight_S: Floats
    kernel_gamma: float
    offset: float
    """libsvm's rho."""
    low_F: Floats
    high_F: Floats

    def score(self, feature_F: Floats) -> float:
        """Return BRISQUE; lower is better."""
        scaled_F = -1 + 2 * (feature_F - self.low_F) / (self.high_F - self.low_F)
        distance_S = np.square(self.vector_SF - scaled_F).sum(axis=1)
        return float(self.weight_S @ np.exp(-self.kernel_gamma * distance_S) - self.offset)


def quality(image_HW3: NDArray[np.uint8], regression: Regression) -> float:
    """Return 1 - BRISQUE / 100 within [0, 1]: AdaFace's proxy "1 - BRISQUE"; higher is better.

    Args:
        image_HW3: blue first.
        regression: BRISQUE's.
    """
    return float(np.clip(1 - regression.score(features(image_HW3)) / 100, 0, 1))


def features(image_HW3: NDArray[np.uint8]) -> Floats:
    """Return the 36 features of an image, blue first."""
    grey_HW = image_HW3 @ LUMA_3 / 255
    half_HW = cv2.resize(grey_HW, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_CUBIC)
    return np.concatenate([_features_of_scale(grey_HW), _features_of_scale(half_HW)])


def _features_of_scale(grey_HW: Floats) -> Floats:
    contrast_HW = normalised_contrast(grey_HW)
    shape, _, left, right = asymmetric_fit(contrast_HW)
    found = [shape, (left + right) / 2]
    neighbours = (
        contrast_HW[:, :-1] * contrast_HW[:, 1:],
        contrast_HW[:-1] * contrast_HW[1:],
        contrast_HW[:-1, :-1] * contrast_HW[1:, 1:],
        contrast_HW[1:, :-1] * contrast_HW[:-1, 1:],
    )
    for product in neighbours:
        found.extend(asymmetric_fit(product))
    return np.array(found)


def normalised_contrast(grey_HW: Floats) -> Floats:
    """Return (I - mean) / (deviation + C), both local (eq. 1)."""
    kernel = cv2.getGaussianKernel(WINDOW, DEVIATION, cv2.CV_64F)

    def blurred(value_HW: Floats) -> Floats:
        made: Floats = cv2.sepFilter2D(value_HW, cv2.CV_64F, kernel, kernel, borderType=cv2.BORDER_CONSTANT)
        return made

    mean_HW = blurred(grey_HW)
    deviation_HW = np.sqrt(np.abs(blurred(grey_HW**2) - mean_HW**2))
    contrast_HW: Floats = (grey_HW - mean_HW) / (deviation_HW + STABILITY)
    return contrast_HW


def asymmetric_fit(value: Floats) -> tuple[float, float, float, float]:
    """Return shape, mean, left and right variance of an asymmetric generalised Gaussian (section III-A).

    By moments (Lasmar et al., 2009). A side without a value counts as one of variance 0; a flat image's values, all
    0, as the widest shape there is.
    """
    is_left = value < 0
    squares = value**2
    num_left = max(int(is_left.sum()), 1)
    left = float(squares[is_left].sum()) / num_left
    right = float(squares[~is_left].sum()) / max(value.size - int(is_left.sum()), 1)
    whole = float(squares.mean())
    if not whole:
        return float(_SHAPE_K[-1]), 0.0, 0.0, 0.0
    skew = np.sqrt(left / right) if right else np.inf
    balance = (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2 if np.isfinite(skew) else 1.0
    ratio = float(np.abs(value).mean()) ** 2 / whole * balance
    shape = float(np.interp(ratio, _RATIO_K, _SHAPE_K))
    spread = np.sqrt(gamma(1 / shape) / gamma(3 / shape))
    mean = (np.sqrt(right) - np.sqrt(left)) * spread * gamma(2 / shape) / gamma(1 / shape)
    return shape, float(mean), left, right
