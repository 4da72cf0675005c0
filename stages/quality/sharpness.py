"""Quality as sharpness: the variance of the Laplacian of the aligned image (Pech-Pacheco et al., ICPR 2000).

Higher is better: 0 is a flat image, sharp faces of 112 px have 2 to 3. The score is log10(1 + variance), the variance
over grey levels 0 to 255 (BT.601) of the 3x3 Laplacian 0 1 0, 1 -4 1, 0 1 0: the logarithm changes no order, it keeps
histograms readable. It looks at the image, knows nothing of faces, and takes noise for detail.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

import cv2
import numpy as np
from pydantic import BaseModel

from stages.core.metrics.features import Features, Floats, Image
from stages.core.metrics.quality import Learned, Material, read_options, seen


class Config(BaseModel, extra="forbid", frozen=True):
    """No settings."""

    name: Literal["sharpness"] = "sharpness"

    def num_images(self, available: int) -> int:
        """Return the number of training images it learns from: none."""
        return 0


def train(config: Config, material: Material) -> Learned:
    """Return nothing: this method has nothing to learn."""
    return Learned()


class Scorer:
    """Scores images by the variance of their Laplacian."""

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return the scorer of a run."""
        return cls(read_options(folder, Config, "sharpness"))

    def look(self, image_HW3: Image) -> float:
        """Return log10(1 + variance of the Laplacian)."""
        grey_HW = cv2.cvtColor(image_HW3, cv2.COLOR_BGR2GRAY)
        return float(np.log10(1 + cv2.Laplacian(grey_HW, cv2.CV_64F).var()))

    def score(self, features: Features) -> Floats:
        """Return score_N, computed while the images were embedded."""
        return seen(features, "sharpness")
